"""The other processes of a job: joining them, and not waiting for one that is gone.

A collective that waits for a dead process waits for ever on some networks. So each process ends itself, with a line
that says why and exit code 76, where

- jax's coordination service has had no sign of life from one of them for ``PALIGAX_LOST_SECONDS``, or the process that
  runs that service (the first) is gone;
- one of them has told that it ends by an error (`explain`), which the others look for every few seconds;
- a collective fails because a connection broke.
"""

import atexit
import contextlib
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from paligax.training.stopping import EXIT_CODE, LOST_EXIT_CODE

JOIN_SECONDS = 300  # until all processes are there
LOST_SECONDS = 60  # without a sign of life from one
POLL_SECONDS = 3.0
_FAILED = "paligax/failed"
_at_end: list[Callable[[int, str], None]] = []
_joined = threading.Event()
_heard: list[str] = []  # what another process has told of its end
_kept: list[Any] = []  # a handler that is in use must not be collected

# What collectives and the coordination service say when the other side is gone (gloo, NCCL, gRPC).
_BROKEN = re.compile(
    r"gloo|nccl|connection (closed|reset|refused)|broken pipe|socket closed|coordination|heartbeat|peer|barrier|"
    r"DEADLINE_EXCEEDED|UNAVAILABLE|ABORTED",
    re.IGNORECASE,
)


class LostProcess(SystemExit):
    """Another process of the job is gone, so that this one can't go on. Exit code 76."""

    def __init__(self, text: str):
        super().__init__(LOST_EXIT_CODE)
        self.text = text

    def __str__(self) -> str:
        return self.text


def join(environment: Mapping[str, str] = os.environ) -> None:
    """Joins the other processes where a launcher has said which one this is (PALIGAX_*); before jax is used.

    PALIGAX_COORDINATOR is host:port of the first process, or "auto" where jax finds the others by itself (TPU hosts).

    Raises:
      ValueError: naming the variable that is missing or no number. (Where the others don't come in time, jax aborts the
        process: it ends with a line that says so, and exit code 76.)
    """
    coordinator = environment.get("PALIGAX_COORDINATOR")
    if not coordinator:
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    where: dict[str, Any] = {}
    if coordinator != "auto":
        where = {
            "coordinator_address": _address(coordinator),
            "num_processes": _number(environment, "PALIGAX_NUM_PROCESSES"),
            "process_id": _number(environment, "PALIGAX_PROCESS_ID"),
        }
        if where["process_id"] >= where["num_processes"]:
            raise ValueError(
                f"PALIGAX_PROCESS_ID={where['process_id']} is none of the {where['num_processes']} processes that "
                "PALIGAX_NUM_PROCESSES says: they are counted from 0."
            )
    if devices := environment.get("PALIGAX_LOCAL_DEVICE_IDS"):
        where["local_device_ids"] = [int(number) for number in devices.split(",")]
    patience = _number(environment, "PALIGAX_JOIN_SECONDS", JOIN_SECONDS)
    lost = _number(environment, "PALIGAX_LOST_SECONDS", LOST_SECONDS)
    if where.get("num_processes", 2) > 1:
        this = f"Process {where['process_id']} of {where['num_processes']}" if where else "This process"
        _end_aborts_with_a_line(
            coordinator,
            f"{this} has not found the others at {coordinator} within {patience} s (what jax says stands above). Were "
            "all of them started, with the same PALIGAX_COORDINATOR, and can they reach it? PALIGAX_JOIN_SECONDS is "
            "how long they wait for each other.",
        )
    jax.distributed.initialize(**where, initialization_timeout=patience, heartbeat_timeout_seconds=lost)
    if _client() is not None:
        _joined.set()
        stop = threading.Event()
        threading.Thread(target=_poll, args=(stop,), name="peers", daemon=True).start()
        atexit.register(stop.set)


def explain(error: BaseException) -> BaseException:
    """What to raise for an error that ends this process of a job.

    Of an error of its own the others are told. One that comes of the loss of another process becomes LostProcess.
    """
    client = _client()
    if client is None or isinstance(error, SystemExit):
        return error
    if broken := _broken_in(error):
        told = _wait_for_failure(client, 2 * POLL_SECONDS)
        lost = LostProcess(told or _lost(f"its connections broke ({_first_line(broken)})"))
        _say(str(lost))
        return lost
    tell(_first_line(error))
    return error


def are_left(error: BaseException) -> bool:
    """Whether this error ends the process apart from the others, so that it can't wait for them."""
    agreed = isinstance(error, SystemExit) and error.code == EXIT_CODE
    return _client() is not None and not agreed


def leave(code: int) -> None:
    """Ends this process of a job that others belong to, at once; returns where there are no others.

    An orderly end would wait for the others, who wait in a collective for this one. The first process, which runs the
    service by which they are told, gives them the time to hear it.
    """
    if _client() is None:
        return
    if _distributed().process_id == 0:
        time.sleep(2 * POLL_SECONDS)
    _exit(code)


def process_id() -> int:
    """Which of the job's processes this is; known before the devices are."""
    return _distributed().process_id


def tell(text: str) -> None:
    """Tells the others that this process ends, and why; who tells first is heard."""
    if (client := _client()) is not None:
        with contextlib.suppress(Exception):  # another one has told already, or the service is gone
            client.key_value_set(_FAILED, f"{_who()}: {text}")


def _poll(stop: threading.Event) -> None:
    """Looks for what another process has told; gives the main thread time to come to its own end before."""
    while not stop.wait(POLL_SECONDS):
        client = _client()
        if client is None:
            return
        told = _failure(client)
        if told and not told.startswith(_who() + ":"):
            _heard.append(told)
            if not stop.wait(4 * POLL_SECONDS):
                _give_up(_lost(told))
            return


def _failure(client: Any) -> str:
    try:
        return client.key_value_try_get(_FAILED)
    except Exception:  # there is none; or no service, of which jax hears by itself
        return ""


def _wait_for_failure(client: Any, seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while not (told := _failure(client)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return _lost(told) if told else ""


def at_end(write: Callable[[int, str], None]) -> None:
    """Has this called, with exit code and reason, where the process is ended by what another one did."""
    _at_end.append(write)


def _end_aborts_with_a_line(coordinator: str, not_joined: str) -> None:
    """Where jax's coordination client gives the job up, it aborts the process; then a line of ours is the last one.

    jax.distributed.initialize has no parameter for it, and Python's own handlers run too late: abort() doesn't return.
    """
    import ctypes

    def aborted(number: int) -> None:
        if not _joined.is_set():
            _give_up(not_joined)
        if _heard:  # the one that told has ended since
            _give_up(_lost(_heard[0]))
        host, colon, port = coordinator.rpartition(":")
        reason = "jax's coordination service has given the job up (what it says stands above)"
        if colon:
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
            except OSError:
                reason = f"process 0, which coordinates the others at {coordinator}, can't be reached"
        _give_up(_lost(reason))

    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)
    _kept.append(handler)
    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p
    libc.signal(ctypes.c_int(signal.SIGABRT), handler)


def _give_up(text: str) -> None:
    """Ends the process because of another one."""
    _say(text)
    for write in _at_end:
        with contextlib.suppress(Exception):
            write(LOST_EXIT_CODE, text)
    _exit(LOST_EXIT_CODE)


def _lost(reason: str) -> str:
    return (
        f"Lost another process of this job: {reason}. {_who()} ends too. Checkpoints that were finished are untouched: "
        "the same command goes on from the newest."
    )


def _who() -> str:
    state = _distributed()
    return f"Process {state.process_id} of {state.num_processes}"


def _distributed() -> Any:
    """jax's own record of the job; asking jax.process_index() instead would start the devices."""
    from jax._src import distributed

    return distributed.global_state


def _client() -> Any:
    """jax's client of the coordination service; None where this process is alone."""
    if "jax" not in sys.modules:
        return None
    state = _distributed()
    return state.client if state.num_processes > 1 else None


def _broken_in(error: BaseException) -> BaseException | None:
    """The error itself, or one that it came of, that jax's runtime raised and that speaks of connections."""
    seen: BaseException | None = error
    for _ in range(10):
        if seen is None:
            break
        kind, text = type(seen), str(seen)
        of_jax = kind.__name__ in ("XlaRuntimeError", "JaxRuntimeError") or kind is ValueError
        if of_jax and re.match(r"[A-Z_]+: ", text) and _BROKEN.search(text):
            return seen
        seen = seen.__cause__ or seen.__context__
    return None


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise ValueError(f"PALIGAX_COORDINATOR is {text!r}: expected HOST:PORT of process 0, or auto.")
    return text


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not text.isdigit():
        raise ValueError(
            f"{name} is {text or 'not set'}: expected a whole number, as PALIGAX_COORDINATOR says that this is one of "
            "several processes."
        )
    return int(text)


def _first_line(error: object) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:500]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _exit(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
