"""Ending a run early without losing anything: SIGTERM (preemption) and the first Ctrl-C save and exit."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

# What schedulers can act upon; all three mean "start the same command again". 75 is "temporary failure, try again"
# (EX_TEMPFAIL of sysexits.h); the other two are not used by it or the shell.
EXIT_CODE = 75  # asked to stop; the state is saved
LOST_EXIT_CODE = 76  # another process of the job is gone
STALLED_EXIT_CODE = 79  # nothing moved for too long

# How long the main thread may stay in a library (compiling, say) after a request that finds nothing to save.
PATIENCE_SECONDS = 5.0


class Preempted(SystemExit):
    """The run was asked to stop; its state is saved, and the same command goes on with it. Exit code 75."""

    def __init__(self, step: int):
        super().__init__(EXIT_CODE)
        self.step = step

    def __str__(self) -> str:
        return f"stopped and saved at step {self.step}"


class Interrupted(BaseException):
    """A request to stop came inside ``StopRequests.interruptible``. No Exception: nothing on the way may keep it."""


class StopRequests:
    """A context manager that turns SIGTERM and Ctrl-C into a question the loop asks between steps.

    A second Ctrl-C ends the run at once. With several processes jax's preemption service decides, on SIGTERM to any of
    them, after which step all of them stop.

    Args:
      say: prints a line for the user.
    """

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self._say = say
        self._requested = threading.Event()
        self._previous: dict[int, Any] = {}
        self._interruptible = False
        self._nothing_to_save = False
        self._bell: socket.socket | None = None

    def __enter__(self) -> "StopRequests":
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
            self._listen()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bell is not None:
            signal.set_wakeup_fd(-1)
            self._bell.close()  # which ends the thread
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _listen(self) -> None:
        """Starts a thread that hears of signals while the main thread is in a library and can't handle them."""
        ear, self._bell = socket.socketpair()
        self._bell.setblocking(False)
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._hear, args=(ear,), name="signals", daemon=True).start()

    def _hear(self, ear: socket.socket) -> None:
        with ear:
            while numbers := ear.recv(16):
                if not {signal.SIGTERM, signal.SIGINT} & set(numbers):
                    continue
                self._requested.wait(PATIENCE_SECONDS)  # set by the main thread, if it comes to it
                if self._nothing_to_save and not self._requested.is_set():
                    self._say("Asked to stop before the first step: there is nothing new to save.")
                    os._exit(EXIT_CODE)

    def _handle(self, number: int, frame: Any) -> None:
        if number == signal.SIGINT and self._requested.is_set():
            raise KeyboardInterrupt
        self._requested.set()
        if self._interruptible:
            self._interruptible = False
            raise Interrupted

    @contextlib.contextmanager
    def interruptible(self, nothing_to_save: bool = False) -> Iterator[None]:
        """Around what may be left half-done: a request to stop ends it by Interrupted, instead of waiting for it.

        Only where there is one process: several must agree on a step.

        Args:
          nothing_to_save: the process may even be ended where the main thread stays in a library.
        """
        self._interruptible, self._nothing_to_save = bool(self._previous), nothing_to_save
        try:
            if self._interruptible and self._requested.is_set():
                raise Interrupted
            yield
        finally:
            self._interruptible = self._nothing_to_save = False

    def requested(self, step: int) -> bool:
        """Whether to save and stop before this step; all processes get the same answer."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            return multihost_utils.reached_preemption_sync_point(step)
        return self._requested.is_set()
