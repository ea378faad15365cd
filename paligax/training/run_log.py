"""What a run writes down: metrics.jsonl and TensorBoard events, both continued where a resumed run goes on."""

import contextlib
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"


class NonFiniteLoss(RuntimeError):
    """The loss or the gradient is infinite or not a number."""


class RunLogError(RuntimeError):
    """metrics.jsonl can't be written; the message says what to do."""


class RunLog:
    """Appends lines to metrics.jsonl, each with its step, and the same numbers to TensorBoard.

    What an earlier start of the run wrote beyond ``step`` is cut off: those steps are done again.

    Args:
      directory: the run's.
      step: from which the run goes on.
    """

    def __init__(self, directory: pathlib.Path, step: int):
        from tensorboardX import SummaryWriter

        path = pathlib.Path(directory) / METRICS
        _cut(path, step)
        self._file = path.open("a")
        self._board = SummaryWriter(str(pathlib.Path(directory) / TENSORBOARD), purge_step=step + 1, flush_secs=30)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one line. Numbers that are not finite are written as null: JSON has none of them."""
        row = {name: value if math.isfinite(value) else None for name, value in values.items()}
        try:
            self._file.write(json.dumps({"step": step, **row}) + "\n")
            self._file.flush()
        except OSError as error:
            raise RunLogError(
                f"{self._file.name} can't be written at step {step}: {error.strerror or error}. Make room, or see to "
                "the rights and the mount of the run directory, and start the same command again: it goes on from the "
                "newest checkpoint."
            ) from error
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def note_non_finite(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes what a step's batch was, whose loss or gradient isn't finite, into a file of its own."""
        path = pathlib.Path(self._file.name).with_name(f"non_finite-{step}.json")
        with contextlib.suppress(OSError):  # the loss is the worse news
            path.write_text(json.dumps({"step": step, **values}, indent=1) + "\n", encoding="utf-8")

    def close(self) -> None:
        with contextlib.suppress(OSError):  # of what write has told
            self._file.close()
        self._board.close()


class NoLog:
    """Writes nothing: every process but the first."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def note_non_finite(self, step: int, values: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


def read(directory: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; one that a crash cut short is left out."""
    path = pathlib.Path(directory) / METRICS
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            pass
    return rows


def _cut(path: pathlib.Path, step: int) -> None:
    if path.is_file():
        kept = [row for row in read(path.parent) if row["step"] <= step]
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(json.dumps(row) + "\n" for row in kept))
        partial.replace(path)


# Metrics of which a line has the last step's value; those with "/" are of one tower.
_LAST = ("learning_rate", "gradient_norm", "update_norm")


class Window:
    """Adds up what happens between two log lines.

    Args:
      task_names: in the order of ``batch.task``.
    """

    def __init__(self, task_names: Sequence[str]):
        self._task_names = tuple(task_names)
        self.clear()

    def clear(self) -> None:
        tasks = len(self._task_names)
        self.steps = 0
        self._sums = {name: np.zeros(tasks) for name in ("task_loss", "task_weight", "task_correct")}
        self._last: Mapping[str, Any] = {}
        self._skipped: dict[str, int] = {}

    def add(self, metrics: Mapping[str, np.ndarray]) -> None:
        """The metrics of one step, as :func:`paligax.training.step.train_step` returns them."""
        self.steps += 1
        self._last = metrics
        for name, sums in self._sums.items():
            sums += np.asarray(metrics[name], np.float64)

    def skip(self, counts: Mapping[str, int]) -> None:
        """Examples that could not be used: "<task>/<reason>" → number."""
        for name, number in counts.items():
            self._skipped[name] = self._skipped.get(name, 0) + number

    @property
    def skipped(self) -> dict[str, int]:
        return self._skipped

    def values(self) -> dict[str, float]:
        """Over the window: loss and accuracy in all and a task, weights (target tokens); the last rate and norms."""
        loss, weight, correct = (self._sums[f"task_{name}"] for name in ("loss", "weight", "correct"))
        values = {"loss": loss.sum() / max(weight.sum(), 1e-9), "accuracy": correct.sum() / max(weight.sum(), 1e-9)}
        values |= {name: float(self._last[name]) for name in self._last if name.partition("/")[0] in _LAST}
        for i, task in enumerate(self._task_names):
            values[f"weight/{task}"] = weight[i]
            if weight[i] > 0:
                values[f"loss/{task}"] = loss[i] / weight[i]
                values[f"accuracy/{task}"] = correct[i] / weight[i]
        return {name: float(value) for name, value in values.items()}


def is_finite(metrics: Mapping[str, np.ndarray]) -> bool:
    """Whether a step's loss and gradient are."""
    return bool(np.isfinite(metrics["loss"]) and np.isfinite(metrics["gradient_norm"]))


def check_finite(step: int, metrics: Mapping[str, np.ndarray], ids: Sequence[str], task_names: Sequence[str]) -> None:
    """Raises NonFiniteLoss that names the step, the tasks and the examples of its batch.

    Args:
      step: of the update that used these numbers.
      metrics: of that step.
      ids: of the batch's rows, "task:record:item".
      task_names: in the order of ``batch.task``.
    """
    if is_finite(metrics):
        return
    tasks = [name for name, loss in zip(task_names, metrics["task_loss"], strict=True) if not np.isfinite(loss)]
    suspects = [i for i in ids if i.split(":")[0] in tasks] or list(ids)
    shown = ", ".join(suspects[:16]) + (f", … ({len(suspects)} in all)" if len(suspects) > 16 else "")
    raise NonFiniteLoss(
        f"Step {step}: loss {float(metrics['loss'])}, gradient norm {float(metrics['gradient_norm'])}"
        + (f"; not finite in {', '.join(tasks)}" if tasks else "")
        + f". Examples of the batch: {shown}. Nothing of this step was saved. Look at these examples "
        "(paligax data inspect), or lower the learning rate, lengthen the warm-up, or set max_gradient_norm."
    )
