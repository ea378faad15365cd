"""Running a pipeline so that it ends, whatever becomes of the processes that do the work.

Beam's runner on this machine gives its work to processes of its own, and waits for their answers. One that the system
killed (most often because memory ran out) never answers, and the runner waits for ever. Here the pipeline runs in a
thread, while this one watches the processes.
"""

import contextlib
import logging
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions, WorkerOptions
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from paligax.data.ingest import notices

POLL = 1.0  # seconds
# How long a pipeline may go on after a process of its ended without an error: at the end of a run all of them do.
GRACE = 20.0
_WORKER = "paligax.data.ingest.worker"  # in the command line of worker processes
_THREAD = "run_worker"  # the thread of Beam's that started one, and fails when it dies
_RAISED = re.compile(r"[\w.]+(Error|Exception|Interrupt|Exit)\b")  # how the last line of a traceback begins
_WHILE = re.compile(r" \[while running '[^\]]*\]\s*$")


class PipelineError(RuntimeError):
    """A worker failed at something that trying again would not help."""


class WorkerDiedError(RuntimeError):
    """A process that did the pipeline's work is gone; the others have been stopped."""


def pipeline(options: PipelineOptions) -> beam.Pipeline:
    """An empty pipeline with these options, to be given to ``run``."""
    notices.leave_out()
    if not _has_workers(options):
        return beam.Pipeline(options=options)
    level = options.view_as(WorkerOptions).default_sdk_harness_log_level or "WARNING"
    command = f"{shlex.quote(sys.executable)} -m {_WORKER} {shlex.quote(level)} {os.getpid()}"
    environment = SubprocessSDKEnvironment.from_command_string(command)
    # What they say comes on their own standard error, and would come once more from here.
    logging.getLogger("apache_beam.runners.portability.local_job_service").setLevel(logging.CRITICAL)
    logging.getLogger(fn_runner.__name__).setLevel(logging.ERROR)  # its advice to use the mode that is set aside here
    here = PipelineOptions.from_dictionary(options.get_all_options(drop_default=True))
    here.view_as(DirectOptions).direct_running_mode = "in_memory"  # else it would start processes of Beam's own
    return beam.Pipeline(runner=_Here(default_environment=environment), options=here)


class _Here(fn_runner.FnApiRunner):
    """Beam's runner on this machine, with worker processes of ours."""


def _has_workers(options: PipelineOptions) -> bool:
    """Whether the work is done on this machine by processes of its own."""
    here = options.view_as(StandardOptions).runner == "FnApiRunner"
    return here and options.view_as(DirectOptions).direct_running_mode == "multi_processing"


def run(pipeline: beam.Pipeline) -> Any:
    """Runs a pipeline to its end; returns Beam's result.

    Raises:
      WorkerDiedError: a worker process on this machine died, at most POLL + GRACE seconds ago.
      PipelineError: what a worker raised.
    """
    try:
        if isinstance(pipeline.runner, _Here):
            return _watched(pipeline)
        result = pipeline.run()
        result.wait_until_finish()
        return result
    except WorkerDiedError:
        raise
    except Exception as error:  # what users raise is of any kind
        raise PipelineError(f"{_said(error)}\n(PALIGAX_TRACEBACK=1 shows where this was raised.)") from error


def _said(error: Exception) -> str:
    """What was raised, without what Beam puts behind it; from another process comes the text of its traceback."""
    lines = f"{type(error).__name__}: {error}".strip().splitlines()
    starts = [i for i, line in enumerate(lines) if _RAISED.match(line)]
    return _WHILE.sub("", "\n".join(lines[starts[-1] if starts else 0 :]))


def _watched(pipeline: beam.Pipeline) -> Any:
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            outcome["result"] = pipeline.run()
            outcome["result"].wait_until_finish()
        except BaseException as error:  # noqa: BLE001  (it is raised where the caller waits)
            outcome["error"] = error

    # Daemons: what waits for a dead process's answer will never end.
    thread = threading.Thread(target=work, name="beam pipeline", daemon=True)
    with _deaths() as deaths:
        watch = _Watch()
        thread.start()
        try:
            while thread.is_alive():
                thread.join(POLL)
                gone = watch.gone()
                if thread.is_alive() and (deaths or gone > GRACE):
                    raise WorkerDiedError(_described(deaths[0] if deaths else ""))
        except BaseException:  # a KeyboardInterrupt, too, must not leave them at work
            watch.stop()
            raise
    if "error" in outcome:
        raise outcome["error"]
    return outcome["result"]


def _described(said: str) -> str:
    """What Beam's "Worker subprocess exited with return code -9" means."""
    found = re.search(r"(-?\d+)$", said)
    code = int(found.group()) if found else 0
    number = -code if code < 0 else code - 128  # a shell between says 128 + the signal
    if 0 < number < 65:
        return (
            f"A process that did the work was killed (signal {number}), most often because memory ran out: fewer of "
            "them need less (--beam.direct_num_workers=1)."
        )
    return f"A process that did the work ended before its time (exit code {code}); what it said stands above."


class _Watch:
    """The worker processes of a pipeline that is begun now."""

    def __init__(self) -> None:
        import psutil

        self._me = psutil.Process()
        self._before = set(self._me.children(recursive=True))
        self._seen: dict[Any, float] = {}  # process → when it was last seen alive

    def _look(self) -> None:
        import psutil

        now = time.monotonic()
        for process in set(self._me.children(recursive=True)) - self._before:
            with contextlib.suppress(psutil.Error):
                if process in self._seen or any(_WORKER in word for word in process.cmdline()):
                    if process.status() != psutil.STATUS_ZOMBIE:
                        self._seen[process] = now

    def gone(self) -> float:
        """For how many seconds one of them has not been there any more."""
        self._look()
        return time.monotonic() - min(self._seen.values(), default=time.monotonic())

    def stop(self) -> None:
        """Ends all of them."""
        import psutil

        self._look()
        for process in self._seen:
            with contextlib.suppress(psutil.Error):  # not there any more
                process.kill()
        psutil.wait_procs(list(self._seen), timeout=5)


@contextlib.contextmanager
def _deaths() -> Iterator[list[str]]:
    """What Beam's threads say of processes that died, which would be a traceback on standard error."""
    said: list[str] = []
    others: list[threading.ExceptHookArgs] = []  # those that lost their connection with one say so, too
    hook, log = threading.excepthook, logging.getLogger("apache_beam.runners.worker.data_plane")
    level = log.level

    def note(failed: threading.ExceptHookArgs) -> None:
        if failed.thread is not None and failed.thread.name == _THREAD:
            said.append(str(failed.exc_value))
        else:
            others.append(failed)

    threading.excepthook = note
    log.setLevel(logging.CRITICAL)
    try:
        yield said
    finally:
        threading.excepthook = hook
        log.setLevel(level)
        for failed in [] if said else others:
            hook(failed)
