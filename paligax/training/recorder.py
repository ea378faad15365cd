"""Takes in the metrics of every step, one step late, and tells the user, the log and the clock."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from paligax.training import processes, run_log


class Stopwatch:
    """Where the time goes: seconds by name, and what is being done now, since when."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.seconds: dict[str, float] = {}
        self.now = ("", time.monotonic())

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        began, (outer, _) = time.perf_counter(), self.now
        self.now = (name, time.monotonic())
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            self.now = (outer, time.monotonic())


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
      counts_tokens: whether weights are those of target tokens.
      skips_non_finite: whether the train step leaves out updates whose loss or gradient isn't finite: the run goes on.
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
        counts_tokens: bool = False,
        skips_non_finite: bool = False,
    ):
        self._task_names = task_names
        self._batch_size = batch_size
        self._train_steps = train_steps
        self._log_every = log_every
        self._log = log
        self._display = display
        self._watch = watch
        self._flops_and_peak = flops_and_peak
        self._counts_tokens, self._skips_non_finite = counts_tokens, skips_non_finite
        self._window = run_log.Window(task_names)
        self._waited = 0.0  # for input, before this window
        self._left_out = 0  # updates
        self._began = time.perf_counter()
        self._paused = 0.0
        self._skipped: dict[str, int] = {}
        self._pending: list[tuple[int, Any, Any]] = []
        self.latest: dict[str, float] = {}  # what the newest step that is known had, and the newest line

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
        if not run_log.is_finite(values):
            self._not_finite(step, values, item.ids)
        self._window.add(values)
        self._window.skip(item.skipped)
        self._display.update(step, float(values["loss"]), self._batch_size / self._seconds_per_step())
        self.latest |= {"step": step, "loss": float(values["loss"])}
        if step % self._log_every == 0 or step == self._train_steps:
            self._write(step)

    def _not_finite(self, step: int, values: dict[str, Any], ids: Any) -> None:
        """Writes the batch's examples down; raises NonFiniteLoss, or takes the step out of the sums."""
        numbers = {name: str(values[name]) for name in ("loss", "gradient_norm")}
        self._log.note_non_finite(step, {**numbers, "examples": list(ids)})
        if not self._skips_non_finite:
            run_log.check_finite(step, values, ids, self._task_names)
        self._left_out += 1
        self._display.say(f"step {step:,}: update {self._left_out} that is left out, its loss or gradient not finite")
        for name in ("task_loss", "task_weight", "task_correct"):
            values[name] = np.zeros_like(values[name])

    def _seconds_per_step(self) -> float:
        return max(time.perf_counter() - self._began - self._paused, 1e-9) / self._window.steps

    def _write(self, step: int) -> None:
        values, seconds = self._window.values(), self._seconds_per_step()
        values |= {"seconds_per_step": seconds, "examples_per_second": self._batch_size / seconds}
        window = seconds * self._window.steps
        if self._counts_tokens:
            weights = sum(value for name, value in values.items() if name.startswith("weight/"))
            values["target_tokens_per_second"] = weights / window
        waited = self._watch.seconds.get("wait_for_input", 0.0)
        values["input_bound"], self._waited = min((waited - self._waited) / window, 1.0), waited
        if (memory := _memory_gib()) is not None:
            values["memory_gib"] = memory
        if self._left_out:
            values["updates_left_out"] = self._left_out
        if self._flops_and_peak is not None:
            flops, peak = self._flops_and_peak
            values["mfu"] = flops / (seconds * peak)
        self.latest |= {n: values[n] for n in ("seconds_per_step", "examples_per_second", "mfu") if n in values}
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
        total = max(time.perf_counter() - self._watch.began, 1e-9)
        stepping = max(total - sum(self._watch.seconds.values()), 0.0)
        seconds = {f"seconds/{name}": value for name, value in self._watch.seconds.items()}
        self._log.write(step, seconds | {"seconds/step": stepping, "goodput": stepping / total})
        where = ", ".join(f"{name.replace('_', ' ')} {value:.1f} s" for name, value in self._watch.seconds.items())
        self._display.say(f"{stepping / total:.1%} of {total:.1f} s went into steps; {where}.")


def _memory_gib() -> float | None:
    """The most that one of this process's devices has held, in GiB; None where devices don't tell."""
    import jax

    stats = [device.memory_stats() for device in jax.local_devices()]
    peaks = [found["peak_bytes_in_use"] for found in stats if found and "peak_bytes_in_use" in found]
    return max(peaks) / 2**30 if peaks else None
