"""Takes in the metrics of every step, one step late, and tells the user, the log and the clock."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from paligax.training import processes, run_log


class Stopwatch:
    """Where the time goes: seconds by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


class Recorder:
    """Between the loop and everything that is written or shown.

    Args:
      task_names: in the order of ``batch.task``.
      batch_size: examples of a step.
      train_steps: the last step, which always gets a line.
      log_every: steps between two lines.
      log: RunLog or NoLog.
      display: of paligax.training.progress.
      watch: adds up where the time goes.
      flops_and_peak: model FLOPs of a step and FLOP/s of all devices, None where the peak is not known.
    """

    def __init__(
        self,
        *,
        task_names: tuple[str, ...],
        batch_size: int,
        train_steps: int,
        log_every: int,
        log: run_log.RunLog | run_log.NoLog,
        display: Any,
        watch: Stopwatch,
        flops_and_peak: tuple[float, float] | None,
    ):
        self._task_names = task_names
        self._batch_size = batch_size
        self._train_steps = train_steps
        self._log_every = log_every
        self._log = log
        self._display = display
        self._watch = watch
        self._flops_and_peak = flops_and_peak
        self._window = run_log.Window(task_names)
        self._began = time.perf_counter()
        self._paused = 0.0
        self._skipped: dict[str, int] = {}
        self._pending: list[tuple[int, Any, Any]] = []

    def step(self, step: int, item: Any, metrics: Mapping[str, Any]) -> None:
        """Takes in the step before this one; this one's metrics stay on the device, which never waits for the host.

        Raises:
          NonFiniteLoss: where the loss or gradient of the step before was not finite.
        """
        self.settle()
        self._pending.append((step, item, metrics))

    def settle(self) -> None:
        """Takes in what is still on the device; waits for it. Raises NonFiniteLoss."""
        while self._pending:
            self._take_in(*self._pending.pop())

    def _take_in(self, step: int, item: Any, metrics: Mapping[str, Any]) -> None:
        values = {name: np.asarray(value) for name, value in metrics.items()}
        run_log.check_finite(step, values, item.ids, self._task_names)
        self._window.add(values)
        self._window.skip(item.skipped)
        self._display.update(step, float(values["loss"]), self._batch_size / self._seconds_per_step())
        if step % self._log_every == 0 or step == self._train_steps:
            self._write(step)

    def _seconds_per_step(self) -> float:
        return max(time.perf_counter() - self._began - self._paused, 1e-9) / self._window.steps

    def _write(self, step: int) -> None:
        values, seconds = self._window.values(), self._seconds_per_step()
        values |= {"seconds_per_step": seconds, "examples_per_second": self._batch_size / seconds}
        if self._flops_and_peak is not None:
            flops, peak = self._flops_and_peak
            values["mfu"] = flops / (seconds * peak)
        for name, number in sorted(processes.add_up(self._window.skipped).items()):
            values[f"skipped/{name}"] = number
            if name not in self._skipped:
                task, _, reason = name.partition("/")
                self._display.say(f"step {step:,}: examples of {task} can't be used: {reason} ({number} so far)")
            self._skipped[name] = self._skipped.get(name, 0) + number
        self._log.write(step, values)
        self._window.clear()
        self._began, self._paused = time.perf_counter(), 0.0

    def evaluation(self, step: int, results: Mapping[str, Mapping[str, float]]) -> None:
        """Writes scores as "eval/<task>/<metric>"."""
        values = {f"eval/{task}/{name}": float(v) for task, scores in results.items() for name, v in scores.items()}
        if values:
            self._log.write(step, values)

    @contextlib.contextmanager
    def pause(self, name: str) -> Iterator[None]:
        """Around what is no part of the steps' pace; first takes in what is on the device, so that it isn't counted."""
        self.settle()
        began = time.perf_counter()
        with self._watch.measure(name):
            yield
        self._paused += time.perf_counter() - began

    def finish(self, step: int) -> None:
        """Writes the steps that have no line yet, and where the time of this start went, as "seconds/<name>"."""
        self.settle()
        if self._window.steps:
            self._write(step)
        for name, number in sorted(self._skipped.items()):
            task, _, reason = name.partition("/")
            self._display.say(f"{number} examples of {task} could not be used: {reason}")
        self._log.write(step, {f"seconds/{name}": value for name, value in self._watch.seconds.items()})
