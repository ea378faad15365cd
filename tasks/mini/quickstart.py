"""The paper in miniature on two cores: `python -m tasks.mini.quickstart`.

Builds `mini_webli`, teaches the ViT, trains all eight tasks with the ViT frozen, then everything at the high
resolution; evaluates both stages, exports the model and writes results.json and report.html. Whatever is done already
is not done again: a second call resumes, or says that there is nothing to do.
"""

import argparse
import contextlib
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

STAGES = {
    "classify": "Stage 1: the ViT learns what a scene holds",
    "base": "Stage 2: eight tasks, ViT frozen",
    "high_res": "Stage 3: the high-resolution phase, everything trained",
}
TEXT_STAGES = ("base", "high_res")
PROMPTS = {
    "captioning": "Generate the alt_text in en at 0: <extra_id_0>",
    "ocr": "Generate the ocr_text in en: <extra_id_0>",
    "vqa": "Answer in EN: what is at the top left? <extra_id_0>",
    "vqg": "Generate a question in en for top left: <extra_id_0>",
    "object_aware": "Answer in EN: List the objects present: <extra_id_0>",
    "detection": "detect cat and house",
}


class Clock:
    """Seconds by what they were spent on, kept in a file so that a resumed recipe counts its earlier calls too."""

    def __init__(self, path: pathlib.Path):
        self._path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        _write_json(self._path, self.seconds)

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(name, time.monotonic() - began)


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _configuration(stage: str, run_dir: pathlib.Path, data_dir: str, words: tuple[str, ...]) -> Any:
    from paligax import configuration

    bindings = [f"DATA_DIR={data_dir}"]
    if stage == "classify":
        bindings += [f"LABELS_PATH={data_dir}/labels.txt"]
    else:
        before = {"base": "classify", "high_res": "base"}[stage]
        bindings += [f"VOCABULARY_PATH={data_dir}/vocabulary.model", f"INITIAL_CHECKPOINT_PATH={run_dir / before}"]
    return configuration.parse(
        [f"experiments/quickstart_{stage}.gin"],
        [*bindings, *words],
        ["Trainer", "Evaluator"],
        model_dir=str(run_dir / stage),
    )


def _compile_seconds(directory: pathlib.Path) -> float:
    """What the newest start of a run spent compiling."""
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line).get("seconds/compile") for line in lines if "seconds/compile" in line]
    return found[-1] if found else 0.0


def _train(stage: str, run_dir: pathlib.Path, data_dir: str, words: tuple[str, ...], clock: Clock) -> Any:
    """Trains a stage to its end, evaluates it once, and returns the evaluation."""
    from paligax import training
    from paligax.inference.held_out import HeldOut

    directory = run_dir / stage
    if (directory / "held_out.json").is_file():
        print(f"{STAGES[stage]}: done.", flush=True)
        return HeldOut.load(directory)
    print(f"\n{STAGES[stage]}", flush=True)
    config = _configuration(stage, run_dir, data_dir, words)
    trainer = config.build("Trainer")
    began = time.monotonic()
    try:
        state = training.train(trainer, config.model_dir, config.text)
    finally:
        spent = time.monotonic() - began
        compiling = min(_compile_seconds(directory), spent) if (directory / "metrics.jsonl").is_file() else 0.0
        clock.add("compile", compiling)
        clock.add(stage, spent - compiling)
    with clock.measure("evaluation"):
        found = config.build("Evaluator").run(trainer.model, state.params)
    found.save(directory)
    return found


def _export(run_dir: pathlib.Path, data_dir: pathlib.Path, results: Mapping[str, Any]) -> Any:
    """Writes the last stage's model as a directory for `paligax.load`, and opens it again."""
    import paligax
    from paligax.inference.export import export

    loaded = paligax.load(str(run_dir / "high_res"))
    path = export(
        run_dir / "export",
        loaded.module,
        loaded.params,
        loaded.vocabulary,
        feature_lengths=loaded.feature_lengths,
        metrics=results,
        data={"data set": "mini_webli", "directory": data_dir.name},
        prompts=PROMPTS,
        licence=(data_dir / "ATTRIBUTION").read_text(encoding="utf-8").strip(),
        name="pali_mini",
    )
    return paligax.load(str(path))


def _number_of_parameters(params: Any) -> int:
    if isinstance(params, Mapping):
        return sum(map(_number_of_parameters, params.values()))
    return int(params.size)


def _table(seconds: Mapping[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Where the time went", title_justify="left")
    table.add_column("what")
    table.add_column("seconds", justify="right")
    for name, value in (*seconds.items(), ("in all", sum(seconds.values()))):
        table.add_row(name, f"{value:.0f}")
    Console().print(table)


def run(run_dir: pathlib.Path, data_root: str, words: tuple[str, ...] = (), size: int = 16_000) -> dict[str, Any]:
    """Runs what is left of the recipe and returns what results.json holds.

    Args:
      run_dir: directory of the three runs, the export, results.json and report.html.
      data_root: directory below which the data set is built.
      words: gin bindings for every stage, behind those of the gin files.
      size: number of training scenes.
    """
    from paligax.inference.held_out import print_table
    from paligax.reports.run_report import Stage, read_losses, write_run_report

    clock = Clock(run_dir / "seconds.json")
    with clock.measure("build"):
        from tasks.mini import build

        print("Building mini_webli …", flush=True)
        data_dir = pathlib.Path(build.build(data_root, size=size))
    found = {stage: _train(stage, run_dir, str(data_dir), words, clock) for stage in STAGES}
    results = {stage: dict(found[stage].results) for stage in TEXT_STAGES}
    with clock.measure("export"):
        loaded = _export(run_dir, data_dir, results["high_res"])
    stages = [
        Stage(stage, title, read_losses(run_dir / stage / "metrics.jsonl"), found[stage].results, found[stage].examples)
        for stage, title in STAGES.items()
    ]
    summary = {"stages": results, "seconds": clock.seconds, "parameters": _number_of_parameters(loaded.params)}
    report = write_run_report(
        run_dir / "report.html",
        title="PaLI in miniature",
        stages=stages,
        seconds=clock.seconds,
        parameters=summary["parameters"],
        summary="Eight tasks on scenes of pictograms and words: with the ViT frozen, then everything at 72 px.",
        attribution=(data_dir / "ATTRIBUTION").read_text(encoding="utf-8").strip(),
    )
    _write_json(run_dir / "results.json", summary)
    print_table(results)
    _table(clock.seconds)
    print(f"Exported model: {run_dir / 'export'}\nReport: {report}", flush=True)
    return summary


def main() -> int:
    parser = argparse.ArgumentParser(prog="quickstart", description=__doc__.splitlines()[0])
    parser.add_argument("--run_dir", default="runs/quickstart", metavar="DIR")
    parser.add_argument("--data_dir", default="data", metavar="DIR", help="where the data set is built")
    parser.add_argument("--size", type=int, default=16_000, metavar="N", help="number of training scenes")
    arguments, rest = parser.parse_known_args()
    if unknown := [word for word in rest if not word.startswith("--gin.")]:
        parser.error(f"{unknown[0]!r} is not known; gin bindings are written --gin.NAME=value")
    run_dir = pathlib.Path(arguments.run_dir)
    if (run_dir / "results.json").is_file() and (run_dir / "report.html").is_file():
        from paligax.inference.held_out import print_table

        results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
        print_table(results["stages"])
        print(f"Done already. Report: {run_dir / 'report.html'}; delete {run_dir} to start again.")
        return 0
    run(run_dir, arguments.data_dir, tuple(word.removeprefix("--gin.") for word in rest), arguments.size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
