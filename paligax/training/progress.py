"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from typing import Any

# Between two lines where the output is no terminal.
QUIET_SECONDS = 10.0


class Lines:
    """Plain lines, the first one at once, then at most one every ten seconds, and the last one."""

    def __init__(self, total: int, step: int):
        self._total = total
        self._clock = _Clock(total, step)
        self._last = float("-inf")

    def say(self, text: str) -> None:
        print(text, flush=True)

    def update(self, step: int, loss: float, examples_per_second: float) -> None:
        left = self._clock.left(step)
        if step < self._total and time.monotonic() - self._last < QUIET_SECONDS:
            return
        self._last = time.monotonic()
        self.say(
            f"step {step:,}/{self._total:,}  loss {loss:.4f}  {examples_per_second:,.1f} examples/s  "
            f"{duration(left)} left"
        )

    def close(self) -> None:
        pass


class Bar:
    """A bar that shows step, loss, examples/s and time left."""

    def __init__(self, total: int, step: int):
        from rich import progress

        self._clock = _Clock(total, step)
        columns = (
            progress.TextColumn("train"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("loss {task.fields[loss]}  {task.fields[rate]} examples/s  {task.fields[left]} left"),
        )
        self._bar = progress.Progress(*columns, refresh_per_second=4)
        self._task = self._bar.add_task("train", total=total, completed=step, loss="–", rate="–", left="–")
        self._bar.start()

    def say(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False)

    def update(self, step: int, loss: float, examples_per_second: float) -> None:
        self._bar.update(
            self._task,
            completed=step,
            loss=f"{loss:.4f}",
            rate=f"{examples_per_second:,.1f}",
            left=duration(self._clock.left(step)),
        )

    def close(self) -> None:
        self._bar.stop()


class Silent:
    """Shows nothing: every process but the first."""

    def say(self, text: str) -> None:
        pass

    def update(self, step: int, loss: float, examples_per_second: float) -> None:
        pass

    def close(self) -> None:
        pass


def start(total: int, step: int, is_first_process: bool) -> Any:
    """The display that fits: a bar on a terminal, lines elsewhere, silence in all processes but the first."""
    if not is_first_process:
        return Silent()
    return (Bar if sys.stdout.isatty() else Lines)(total, step)


class _Clock:
    """Time left, from the pace of all steps since the start."""

    def __init__(self, total: int, step: int):
        self._total, self._first, self._began = total, step, time.monotonic()

    def left(self, step: int) -> float:
        done = max(step - self._first, 1)
        return (time.monotonic() - self._began) / done * (self._total - step)


def duration(seconds: float) -> str:
    """"2d 03h", "1h 05m", "3m 20s" or "12s"."""
    whole = int(round(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours:02d}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {whole % 60:02d}s" if minutes else f"{whole}s"
