"""What safety costs: a save in the background to the steps around it; a restart; SIGTERM, until the run has ended.

    python -m benchmarks.safety --data_dir=data/mini_webli/seed0_size16000_scale1_96px/1.0.0 --json=safety.json

Trains the quickstart's second stage, each start a process of its own. Ratios are of one and the same start: the mean
time of the steps from a save on, blocking part included, over that of steps as far from any save as can be.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

EVERY = 60  # steps between two saves
WINDOWS = (10, 20, 40)  # steps from a save on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="what `paligax data build mini_webli` prints")
    parser.add_argument("--saves", type=int, default=8)
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    parser.add_argument("--train", nargs=2, metavar=("RUN", "STEPS"), help=argparse.SUPPRESS)
    parser.add_argument("--record", metavar="FILE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.data_dir, *arguments.train, arguments.record)
        return
    with tempfile.TemporaryDirectory() as directory:
        figures = measure(pathlib.Path(directory), arguments)
    print(json.dumps(figures, indent=1))
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")


def measure(directory: pathlib.Path, arguments: argparse.Namespace) -> dict[str, float]:
    run, record = directory / "run", directory / "times.json"
    steps = EVERY * (arguments.saves + 1)
    start(arguments.data_dir, run, steps, record).wait()
    figures = around_saves(json.loads(record.read_text()))
    # The same job for longer: its programs are in the cache, its state in the run directory.
    began = time.time()
    process = start(arguments.data_dir, run, 10 * steps, record)
    while step_of(run) <= steps:
        if process.poll() is not None:
            raise RuntimeError(f"The second start ended with exit code {process.returncode}.")
        time.sleep(0.02)
    figures["restart_to_first_step_seconds"] = time.time() - began
    time.sleep(5.0)
    began = time.time()
    process.send_signal(signal.SIGTERM)
    figures["sigterm_exit_code"] = process.wait()
    figures["sigterm_to_end_seconds"] = time.time() - began
    return figures


def start(data_dir: str, run: pathlib.Path, steps: int, record: pathlib.Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.safety", f"--data_dir={data_dir}", f"--record={record}"]
    huge_pages = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}  # as in `make quickstart`
    return subprocess.Popen([*command, "--train", str(run), str(steps)], stdout=subprocess.DEVNULL, env=huge_pages)


def step_of(run: pathlib.Path) -> int:
    """The newest step in the log."""
    lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").is_file() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return max((row["step"] for row in rows), default=0)


def train(data_dir: str, run: str, steps: str, record: str) -> None:
    """`paligax train` that notes when every step was taken in."""
    from paligax import cli
    from paligax.training import recorder, saving

    times: dict[int, float] = {}
    blocked: list[float] = []
    take_in, save = recorder.Recorder._take_in, saving.Checkpoints.save

    def noting(self, step, item, metrics):
        take_in(self, step, item, metrics)
        times[step] = time.perf_counter()

    def timed(self, step, state):
        began = time.perf_counter()
        save(self, step, state)
        blocked.append(time.perf_counter() - began)

    recorder.Recorder._take_in, saving.Checkpoints.save = noting, timed
    words = ["train", "--gin_file=experiments/quickstart_base.gin", f"--model_dir={run}", "--accept_config_change"]
    gin = {
        "DATA_DIR": data_dir,
        "VOCABULARY_PATH": f"{data_dir}/vocabulary.model",
        "TRAIN_STEPS": steps,
        "CoolDown.cooldown_steps": 1,
        "Trainer.initial_sources": "()",
        "Trainer.checkpoint_every": EVERY,
        "Trainer.log_every": 1,
        "Trainer.compile_cache": str(pathlib.Path(run).parent / "cache"),
        "look/Evaluator.every_steps": 0,
    }
    cli.main([*words, *(f"--gin.{name}={value}" for name, value in gin.items())])
    pathlib.Path(record).write_text(json.dumps({"times": times, "blocked": blocked}))


def around_saves(record: dict) -> dict[str, float]:
    """Ratios of the steps from each save on to the quiet ones before the next."""
    times = {int(step): at for step, at in record["times"].items()}
    seconds = {step: at - times[step - 1] for step, at in times.items() if step - 1 in times}
    saves = range(EVERY, max(times) - EVERY + 1, EVERY)
    figures: dict[str, float] = {"save_blocks_seconds": float(np.median(record["blocked"][:-1]))}
    for width in WINDOWS:
        # The step after a save is the one whose time holds the save's blocking part.
        with_save = [seconds[s + i] for s in saves for i in range(1, width + 1)]
        quiet = [seconds[s + EVERY - i] for s in saves for i in range(min(width, EVERY - max(WINDOWS)))]
        figures[f"steps_{width}_after_a_save_ratio"] = float(np.mean(with_save) / np.mean(quiet))
    figures["seconds_per_step"] = float(np.median(list(seconds.values())))
    return figures


if __name__ == "__main__":
    main()
