"""Whether a run moves: status.json and starts.jsonl for people and schedulers, and an end by exit code where it stalls.

- status.json: what the run does now, written anew every few seconds: its "time" is the run's heartbeat
- starts.jsonl: a line for every start and every end that the run could write; a start without an end was killed
"""

import contextlib
import dataclasses
import faulthandler
import json
import os
import pathlib
import socket
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from paligax.training import peers
from paligax.training.recorder import Stopwatch
from paligax.training.stopping import EXIT_CODE, STALLED_EXIT_CODE

STATUS = "status.json"
STARTS = "starts.jsonl"
STACKS = "stacks-{}.txt"
EVERY_SECONDS = 5.0

# A step or a batch that takes this long will never come. What is done seldom may take longer by the factor.
STALL_SECONDS = 600.0
_SLOW = 6.0
_QUICK = ("", "wait_for_input")


class Watch:
    """Around a start of a run, from before its data are opened. A context manager.

    Every few seconds it writes status.json (the first process) and looks whether the run moves (all of them). Where no
    step and no other work has ended for ``stall_seconds``, it says what is stuck, writes the stacks of all threads into
    the run directory and ends the process with exit code 79.

    Args:
      directory: the run's.
      stopwatch: says what is being done, since when.
      first: whether this is the first of the run's processes; the others write nothing.
      stall_seconds: patience with a step or a batch, in seconds; opening, compiling, evaluating and saving have six
        times as long. 0: for ever.
    """

    def __init__(self, directory: pathlib.Path, stopwatch: Stopwatch, first: bool, stall_seconds: float):
        if stall_seconds < 0:
            raise ValueError(f"stall_seconds must be at least 0 (0: no limit), got {stall_seconds}.")
        self._directory = pathlib.Path(directory)
        self._stopwatch = stopwatch
        self._first = first
        self._stall_seconds = stall_seconds
        self._values: dict[str, Any] = {"state": "starting", "host": socket.gethostname(), "pid": os.getpid()}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._write()
        self._thread.start()
        peers.at_end(self._end)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self._stop.set()
        self._thread.join()
        code = 0 if error is None else error.code if isinstance(error, SystemExit) else 1
        self._end(code, "" if error is None else _line(error))

    def began(self, step: int, **values: Any) -> None:
        """The run has been opened and goes on from ``step``; ``values`` describe this start."""
        self.note(state="training", start=step, **values)
        self._append({"event": "start", "step": step, **values})

    def note(self, **values: Any) -> None:
        """Changes what status.json says, from its next writing on."""
        with self._lock:
            self._values |= values

    def _run(self) -> None:
        while not self._stop.wait(EVERY_SECONDS if not self._stall_seconds else min(EVERY_SECONDS, self._limit() / 4)):
            self._write()
            phase, since = self._stopwatch.now
            seconds = time.monotonic() - since
            if self._stall_seconds and seconds > self._limit():
                self._stalled(phase, seconds)

    def _limit(self) -> float:
        phase, _ = self._stopwatch.now
        if phase not in _QUICK:
            return _SLOW * self._stall_seconds
        # Where one process waits for data all others are in a step: the one that knows why speaks first.
        return self._stall_seconds * (1.0 if phase else 1.2)

    def _stalled(self, phase: str, seconds: float) -> None:
        stacks = self._directory / STACKS.format(peers.process_id())
        with contextlib.suppress(OSError), stacks.open("w") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        text = (
            f"Nothing has moved for {seconds:.0f} s: {_WHAT.get(phase, phase.replace('_', ' '))}, step "
            f"{self._values.get('step', self._values.get('start', 0))}. What every thread was doing is in {stacks}. "
            "Checkpoints that were finished are untouched: the same command goes on from the newest. (--stall_seconds "
            f"is the patience, now {self._stall_seconds:.0f}; 0 waits for ever.)"
        )
        print(text, file=sys.stderr, flush=True)
        peers.tell(text)
        self._end(STALLED_EXIT_CODE, text)
        peers.leave(STALLED_EXIT_CODE)
        os._exit(STALLED_EXIT_CODE)

    def _end(self, code: int, reason: str) -> None:
        self.note(state={0: "done", EXIT_CODE: "stopped"}.get(code, "failed"), exit_code=code, last_error=reason)
        if code == 0:
            self.note(last_error=None)
        self._append({"event": "end", "step": self._values.get("step"), "exit_code": code, "reason": reason})
        self._write()

    def _append(self, line: Mapping[str, Any]) -> None:
        if self._first:
            who = {"time": time.time(), "host": self._values["host"], "pid": self._values["pid"]}
            with contextlib.suppress(OSError), (self._directory / STARTS).open("a") as file:
                file.write(json.dumps({**who, **line}) + "\n")

    def _write(self) -> None:
        if not self._first:
            return
        phase, since = self._stopwatch.now
        with self._lock:
            values = dict(self._values)
        values |= {"phase": phase or "step", "phase_seconds": time.monotonic() - since, "time": time.time()}
        partial = self._directory / (STATUS + ".partial")
        with contextlib.suppress(OSError):  # a full disk must not end the run here; saving will say it
            partial.write_text(json.dumps({n: _finite(v) for n, v in values.items()}, indent=1) + "\n")
            partial.replace(self._directory / STATUS)


_WHAT = {
    "": "a step is under way (another process may be stuck or gone)",
    "wait_for_input": "no batch comes (the storage of the data set may be slow or out of reach)",
    "open_data": "the data are being opened",
}


@dataclasses.dataclass(frozen=True)
class Start:
    """One start of a run, as starts.jsonl has it.

    Attributes:
      time: when, in seconds since 1970.
      step: from which it went on.
      ended: when, None where it could not write so: it runs, or was killed.
      exit_code: at the end, None as before.
      reason: why it ended, "" at the run's end.
    """

    time: float
    step: int
    ended: float | None = None
    exit_code: int | None = None
    reason: str = ""


def starts(directory: pathlib.Path) -> list[Start]:
    """All starts that came as far as opening the run, oldest first; a line that a crash cut short is left out."""
    path = pathlib.Path(directory) / STARTS
    found: list[Start] = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            if row["event"] == "start":
                found.append(Start(float(row["time"]), int(row["step"])))
            elif found and found[-1].ended is None:
                ended = dict(ended=float(row["time"]), exit_code=int(row["exit_code"]), reason=str(row["reason"]))
                found[-1] = dataclasses.replace(found[-1], **ended)
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not (value == value and abs(value) != float("inf")) else value


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:1000]
