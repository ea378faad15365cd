"""The card of an exported model (README.md): what it is, what it learned from, what it scored, how it is opened."""

import json
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

_KINDS = {
    "Classifier": "Image classifier",
    "MT5": "Text in, text out",
    "PaLI": "Image and text in, text out",
    "SigLIP": "Scores of images with texts",
    "TextTower": "Text tower",
    "ViT": "Image tower",
}
_ARGUMENTS = {
    "Classifier": "image)  # uint8 [B, H, W, 3] → logits [B, C]",
    "MT5": "inputs, targets)  # int32 [B, L], [B, T] → logits [B, T, V]",
    "PaLI": "image, inputs, targets)  # uint8 [B, H, W, 3], int32 [B, L], [B, T] → logits [B, T, V]",
    "SigLIP": "image, text)  # uint8 [B, H, W, 3], int32 [C, L] → logits [B, C]",
    "TextTower": "text)  # int32 [B, L] → [B, E]",
    "ViT": "image)  # uint8 [B, H, W, 3] → tokens [B, P, D]",
}
# What a card says of training → the gin macro that says it.
_MACROS = {
    "mixture": "MIXTURE_OR_TASK_NAME",
    "batch size": "BATCH_SIZE",
    "steps of the run": "TRAIN_STEPS",
    "seed": "SEED",
    "started from": "INITIAL_CHECKPOINT_PATH",
}
_LEARNING_RATE = re.compile(r"^(?:[\w/]*/)?(?:(?:Constant|InverseSquareRoot|Cosine|CoolDown)\.\w+|\w+\.learning_rate)$")


def trained_on(
    config: str, *, step: int | None = None, tasks: Sequence[str] = (), rates: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """What a resolved gin text says of the training, for people: name → text or number.

    Args:
      config: as it stands beside a checkpoint.
      step: of the checkpoint.
      tasks: names of the mixture's tasks.
      rates: task → its part of the mixture, in whatever unit; where they are known.
    """
    found = dict(re.findall(r"^(\S+) = (.+)$", config, re.MULTILINE))
    stated: dict[str, Any] = {
        name: found[macro].strip("'\"")
        for name, macro in _MACROS.items()
        if found.get(macro, "''") not in ("''", "None")
    }
    if step is not None:
        stated["steps of this checkpoint"] = step
    if rates:
        whole = sum(rates.values())
        stated["tasks"] = ", ".join(f"{task} {100 * rate / whole:.3g} %" for task, rate in rates.items())
    elif tasks:
        stated["tasks"] = ", ".join(tasks)
    settings = [f"{name} = {value}" for name, value in found.items() if _LEARNING_RATE.match(name)]
    if settings:
        stated["learning rate"] = "; ".join(settings)
    return stated


def read_metrics(path: str | os.PathLike) -> dict[str, dict[str, float]]:
    """{task: {metric: number}} of what `paligax eval` wrote, or of such a dictionary written by hand.

    Raises:
      FileNotFoundError, ValueError: where there is no such file, or it holds something else.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"No file {str(path)!r}: `paligax eval` writes results.json.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no JSON: {error}.") from error
    found = found.get("tasks", found) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
        raise ValueError(
            f"{str(path)!r} holds no results: expected what `paligax eval` writes, {{task: {{metric: …}}}}."
        )
    metrics = {}
    for task, values in found.items():
        if isinstance(values.get("metrics"), dict):
            values = values["metrics"] | {"blind": values.get("blind")}
        metrics[task] = {name: float(value) for name, value in values.items() if _is_number(value)}
    return metrics


def metrics_of_run(directory: str | os.PathLike, step: int) -> dict[str, dict[str, float]]:
    """{task: {metric: number}} of the evaluation that a run made of this step while it trained; {}: it made none."""
    path = pathlib.Path(directory) / "metrics.jsonl"
    metrics: dict[str, dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:  # cut short by a crash
            continue
        if not isinstance(row, dict) or row.get("step") != step:
            continue
        for name, value in row.items():
            group, _, rest = name.partition("/")
            task, _, metric = rest.rpartition("/")
            if group == "eval" and task and _is_number(value):
                metrics.setdefault(task, {})[metric] = float(value)
    return metrics


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def card(name: str, described: Mapping[str, Any], architecture: Mapping[str, Any], use: str = "") -> str:
    """The text of README.md.

    Args:
      name: title.
      described: what paligax.json says.
      architecture: of ``models.describe``.
      use: what stands under "Use" in place of ``paligax.load``; Markdown.
    """
    side = described["feature_lengths"].get("image")
    sized = f", images of {side} × {side} px" if side else ""
    parts = [f"# {name}", ""]
    parts.append(
        f"{_KINDS[architecture['class']]}: `{architecture['class']}`, {described['parameters']:,} parameters{sized}. "
        f"Exported with paligax on {described['created']}."
    )
    parts += ["", "## Trained on", ""]
    parts += [f"- {key}: {value}" for key, value in described["data"].items()] or ["Not stated."]
    parts += ["", "## Use", "", use or _use(described, architecture), "", "## Held-out results", ""]
    if described["metrics"]:
        parts += ["`blind` is the control: the same model with the images exchanged among the examples.", ""]
        parts += ["| Task | Metric | Value |", "|---|---|---|"]
        parts += [
            f"| {task} | {metric} | {value:.4f} |"
            for task, values in described["metrics"].items()
            for metric, value in values.items()
        ]
    else:
        parts.append("Not evaluated.")
    parts += ["", "## Licence", "", described["licence"] or "Not stated: ask who exported it."]
    return "\n".join(parts) + "\n"


def example_prompt(described: Mapping[str, Any]) -> str:
    """One of the prompts that the model was trained with, or the form that all have."""
    return next(iter(described["prompts"].values()), "Answer in EN: What is this? <extra_id_0>")


def _use(described: Mapping[str, Any], architecture: Mapping[str, Any]) -> str:
    parts = ["```python", "import numpy as np", "import paligax", ""]
    parts.append('model = paligax.load("PATH/OF/THIS/DIRECTORY")')
    if described["vocabulary"]:
        parts += [
            "image = np.zeros((480, 640, 3), np.uint8)  # any size; or the bytes of a JPEG or PNG",
            f"model.generate([image], [{example_prompt(described)!r}])",
            "```",
        ]
        parts.append("")
        parts.append("`<extra_id_0>` in a prompt is the sentinel that the answer stands for; prompts as in training:")
        parts += [""] + [f"- {task}: `{prompt}`" for task, prompt in described["prompts"].items()]
    else:
        parts += [f"model.module.apply({{'params': model.params}}, {_ARGUMENTS[architecture['class']]}", "```"]
    return "\n".join(parts)
