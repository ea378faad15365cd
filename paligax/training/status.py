"""What `paligax status` says of a run: from its files alone, on any machine that sees them, while it runs or after."""

import dataclasses
import json
import pathlib
import time
from typing import Any

from paligax.training import checkpoints, manifest, run_directory, run_log, watching
from paligax.training.progress import duration

# A run that has written nothing for this long has stopped or hangs; it writes every five seconds.
SILENT_SECONDS = 120.0

MOVING, STANDING, ENDED = 0, 3, 4  # exit codes: runs or is done; should run and doesn't move; ended before its end


@dataclasses.dataclass(frozen=True)
class Status:
    """How a run is.

    Attributes:
      state: "starting", "training", "done", "stopped" (asked to; it can go on), "failed", "killed" or "silent".
      phase: what it does, or did last: "step", "compile", "evaluate", …
      step: the newest one that is known.
      train_steps: how many there will be.
      loss: of that step.
      examples_per_second: over the last line of metrics.jsonl, like the next two.
      seconds_per_step: of all processes together.
      mfu: model FLOP/s of the devices' peak; None where their peak isn't known.
      seconds_left: at this speed.
      goodput: share of the time since the first start that went into steps which count: not into starts, saves,
        evaluations, steps that were lost and done again, or waiting between starts. None before the first line.
      starts: how often the run was started.
      last_checkpoint: step of the newest one that was finished.
      last_checkpoint_age: in seconds.
      last_error: why the newest start that ended badly did so.
      heartbeat_age: seconds since the run wrote that it is there.
      host: on which its first process runs.
      pid: of that process.
    """

    state: str
    phase: str
    step: int
    train_steps: int | None
    loss: float | None
    examples_per_second: float | None
    seconds_per_step: float | None
    mfu: float | None
    seconds_left: float | None
    goodput: float | None
    starts: int
    last_checkpoint: int | None
    last_checkpoint_age: float | None
    last_error: str | None
    heartbeat_age: float
    host: str
    pid: int

    @property
    def exit_code(self) -> int:
        """0: it moves or is done; 3: it should move and doesn't; 4: it ended before its end."""
        if self.state in ("starting", "training", "done"):
            return MOVING
        return STANDING if self.state == "silent" else ENDED


def read(directory: str | pathlib.Path, silent_seconds: float = SILENT_SECONDS) -> Status:
    """The status of the run in a directory.

    Args:
      directory: the run's.
      silent_seconds: a run without an end that has not written for so long counts as "silent".

    Raises:
      FileNotFoundError: where there is no run, or one that has never been started since status.json exists.
    """
    directory = pathlib.Path(directory).expanduser().absolute()
    try:
        now = json.loads((directory / watching.STATUS).read_text())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"No {watching.STATUS} in {directory}: expected the directory that `paligax train --model_dir` was given."
        ) from None
    age = max(0.0, time.time() - now["time"])
    state = _state(directory, now, age, silent_seconds)
    starts, rows = watching.starts(directory), run_log.read(directory)
    step, train_steps = now.get("step", now.get("start", 0)), now.get("train_steps")
    pace = now.get("seconds_per_step") or _last(rows, "seconds_per_step")
    saved = _last_checkpoint(directory)
    return Status(
        state=state,
        phase=now["phase"],
        step=step,
        train_steps=train_steps,
        loss=now.get("loss"),
        examples_per_second=now.get("examples_per_second") or _last(rows, "examples_per_second"),
        seconds_per_step=pace,
        mfu=now.get("mfu") or _last(rows, "mfu"),
        seconds_left=pace * (train_steps - step) if pace and train_steps and state != "done" else None,
        goodput=_goodput(rows, starts, now["time"]),
        starts=len(starts),
        last_checkpoint=saved and saved[0],
        last_checkpoint_age=saved and max(0.0, time.time() - saved[1]),
        last_error=now.get("last_error") or _last_error(starts, state),
        heartbeat_age=age,
        host=now["host"],
        pid=now["pid"],
    )


def _state(directory: pathlib.Path, now: dict[str, Any], age: float, silent_seconds: float) -> str:
    if "exit_code" in now:
        return now["state"]
    if run_directory.is_dead_here(now["host"], now["pid"]):
        return "killed"
    return "silent" if age > silent_seconds else now["state"]


def _last(rows: list[dict[str, Any]], name: str) -> float | None:
    return next((row[name] for row in reversed(rows) if row.get(name) is not None), None)


def _last_checkpoint(directory: pathlib.Path) -> tuple[int, float] | None:
    """(step, time of writing) of the newest checkpoint that was finished."""
    for step in checkpoints.steps(directory / checkpoints.FOLDER):
        path = directory / checkpoints.FOLDER / str(step)
        if manifest.exists(path):
            return step, (path / manifest.NAME).stat().st_mtime
    return None


def _last_error(starts: list[watching.Start], state: str) -> str | None:
    for i, start in reversed(list(enumerate(starts))):
        if start.ended is None and (i < len(starts) - 1 or state == "killed"):
            return f"the start from step {start.step:,} was killed, or its machine was lost"
        if start.exit_code:
            return start.reason
    return None


def _goodput(rows: list[dict[str, Any]], starts: list[watching.Start], until: float) -> float | None:
    """metrics.jsonl holds every step once, as it was done last: the lines of lost steps are cut off at each start."""
    good, before = 0.0, 0
    for row in rows:
        if row.get("seconds_per_step") is not None:
            good += row["seconds_per_step"] * (row["step"] - before)
            before = row["step"]
    if not starts or not good:
        return None
    return min(1.0, good / max(until - starts[0].time, 1e-9))


def text(directory: str | pathlib.Path, status: Status) -> str:
    """A few lines for people; the first one says the most."""
    share = f" ({status.step / status.train_steps:.0%})" if status.train_steps else ""
    total = f" of {status.train_steps:,}" if status.train_steps else ""
    left = f", {duration(status.seconds_left)} left" if status.seconds_left is not None else ""
    speed = [
        f"{status.examples_per_second:,.1f} examples/s" if status.examples_per_second else "not known yet",
        f"{status.seconds_per_step:.3g} s a step" if status.seconds_per_step else "",
        f"MFU {status.mfu:.1%}" if status.mfu else "MFU not known for these devices",
    ]
    good = f"{status.goodput:.1%} of the time since the first start" if status.goodput is not None else "not known yet"
    saved = "none yet"
    if status.last_checkpoint is not None:
        saved = f"step {status.last_checkpoint:,}, {duration(status.last_checkpoint_age or 0.0)} ago"
    lines = [
        f"{directory}: {status.state}, step {status.step:,}{total}{share}{left}",
        f"  speed            {', '.join(part for part in speed if part)}",
        f"  goodput          {good}; {status.starts} start{'s' * (status.starts != 1)}",
        f"  last checkpoint  {saved}",
        f"  last error       {status.last_error or 'none'}",
        f"  heartbeat        {duration(status.heartbeat_age)} ago: {status.phase}, by {status.pid} on {status.host}",
    ]
    return "\n".join(lines)
