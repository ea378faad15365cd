"""Ending a run early without losing anything: SIGTERM (preemption) and the first Ctrl-C save and exit."""

import signal
import threading
from typing import Any

import jax

# "Temporary failure, try again" (EX_TEMPFAIL of sysexits.h): schedulers can restart on it.
EXIT_CODE = 75


class Preempted(SystemExit):
    """The run was asked to stop; its state is saved, and the same command goes on with it. Exit code 75."""

    def __init__(self, step: int):
        super().__init__(EXIT_CODE)
        self.step = step

    def __str__(self) -> str:
        return f"stopped and saved at step {self.step}"


class StopRequests:
    """A context manager that turns SIGTERM and Ctrl-C into a question the loop asks between steps.

    A second Ctrl-C ends the run at once. With several processes jax's preemption service decides, on SIGTERM to any of
    them, after which step all of them stop.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequests":
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and self._requested.is_set():
            raise KeyboardInterrupt
        self._requested.set()

    def requested(self, step: int) -> bool:
        """Whether to save and stop before this step; all processes get the same answer."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return self._requested.is_set()
