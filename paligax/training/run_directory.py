"""Whose run directory this is: one job at a time, one configuration for good."""

import contextlib
import dataclasses
import difflib
import json
import os
import pathlib
import re
import socket
import threading
import time
from collections.abc import Callable

CONFIG = "config.gin"
LOCK = "lock.json"

# A job on another machine is alive if its lock changes within this time.
HEARTBEAT_SECONDS = 10.0
PATIENCE_SECONDS = 3.5 * HEARTBEAT_SECONDS


class RunDirectoryError(RuntimeError):
    """The run directory is in use, or belongs to another configuration; the message says what to do."""


def path_of(model_dir: str | os.PathLike[str]) -> pathlib.Path:
    """The absolute path that --model_dir names. Raises RunDirectoryError for an object store."""
    text = os.fspath(model_dir)
    if scheme := re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise RunDirectoryError(
            f"--model_dir={text}: a run directory must be on a file system that all processes see (local disk, NFS, or "
            f"a bucket that is mounted as one); {scheme[0]} is none. Data may be read from there: docs/reliability.md."
        )
    return pathlib.Path(text).expanduser().absolute()


def make(directory: pathlib.Path) -> None:
    """Makes the directory where it isn't there. Raises RunDirectoryError where it can't be made or written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f"writable.{socket.gethostname()}.{os.getpid()}"
        probe.write_text("a file can be written\n")
        probe.unlink()
    except OSError as error:
        raise RunDirectoryError(
            f"The run directory {directory} can't be written: {error.strerror or error}. Choose another --model_dir, "
            "or see to the rights, the room and the mount of this one."
        ) from error


def check_config(directory: pathlib.Path, config: str, accept_change: bool, say: Callable[[str], None]) -> None:
    """Writes config.gin into a fresh run directory; compares with the one that is there otherwise.

    Comments and empty lines don't count.

    Args:
      directory: the run's.
      config: resolved gin text.
      accept_change: take the new configuration instead of refusing it; the old one stays as config.gin.<number>.
      say: prints a line for the user.

    Raises:
      RunDirectoryError: where the configuration is another one, listing the lines that differ.
    """
    path = directory / CONFIG
    if path.is_file():
        changes = _changes(path.read_text(), config)
        if changes and not accept_change:
            raise RunDirectoryError(
                f"{directory} holds a run of another configuration (- there, + now):\n  "
                + "\n  ".join(changes[:40])
                + (f"\n  … and {len(changes) - 40} more" if len(changes) > 40 else "")
                + f"\nTo go on with that run: --gin_file={path}. For a new run: another --model_dir (with "
                "Trainer.initial_sources it can start from this one's weights). If the change is meant for this very "
                "run: --accept_config_change."
            )
        if not changes:
            return
        number = 1
        while (old := directory / f"{CONFIG}.{number}").exists():
            number += 1
        path.rename(old)
        say(f"The run goes on with a changed configuration (the old one is {old}):\n  " + "\n  ".join(changes))
    partial = directory / (CONFIG + ".partial")
    partial.write_text(config)
    partial.replace(path)


def _changes(old: str, new: str) -> list[str]:
    before, after = ([line.rstrip() for line in text.splitlines() if _counts(line)] for text in (old, new))
    return [line for line in difflib.ndiff(before, after) if line[0] in "+-"]


def _counts(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


@dataclasses.dataclass(frozen=True)
class _Owner:
    """Who holds a lock. ``started`` tells a process from a later one with the same pid."""

    host: str
    pid: int
    started: str
    beat: int = 0

    @classmethod
    def me(cls) -> "_Owner":
        return cls(socket.gethostname(), os.getpid(), _started(os.getpid()))

    @classmethod
    def read(cls, path: pathlib.Path) -> "_Owner | None":
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):  # cut short, by a full disk or a crash
            return cls("", 0, "")

    def write(self, path: pathlib.Path) -> None:
        partial = path.with_name(f"{path.name}.{self.host}.{self.pid}")
        partial.write_text(json.dumps(dataclasses.asdict(self)))
        partial.replace(path)

    def runs_here(self) -> bool:
        """Whether the very process is alive on this machine."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return _started(self.pid) == self.started


def _started(pid: int) -> str:
    """When a process was started: the boot's id and clock ticks since; "" on systems other than Linux."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # A zombie still has its pid and does nothing more.
    return "" if fields[0] == "Z" else f"{boot}/{fields[19]}"


def is_dead_here(host: str, pid: int) -> bool:
    """Whether a process is known to be gone: it was one of this machine, and there is none with its number."""
    return host == socket.gethostname() and not pathlib.Path(f"/proc/{pid}").exists() and pathlib.Path("/proc").exists()


class Lock:
    """Keeps a second job off a run directory while this one is alive. A context manager.

    The lock of a process of this machine that is dead is taken over at once, that of another machine when it has not
    changed for half a minute (its owner writes into it every ten seconds).

    Args:
      directory: the run's.
      say: prints a line for the user.
      patience: seconds to watch the lock of another machine.
    """

    def __init__(self, directory: pathlib.Path, say: Callable[[str], None], patience: float = PATIENCE_SECONDS):
        self._path = pathlib.Path(directory) / LOCK
        self._say = say
        self._patience = patience
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lock", daemon=True)
        self._me = _Owner.me()

    def __enter__(self) -> "Lock":
        """Raises RunDirectoryError where another job is alive on the directory."""
        import fcntl

        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            with contextlib.suppress(OSError):  # on a file system without locks a race of milliseconds remains
                fcntl.flock(folder, fcntl.LOCK_EX)  # against two jobs that start at the same time
            self._refuse_if_owned()
            self._me.write(self._path)
        finally:
            os.close(folder)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._is_mine():
            self._path.unlink(missing_ok=True)

    def _refuse_if_owned(self) -> None:
        owner = _Owner.read(self._path)
        if owner is None or not owner.pid:
            return
        if owner.host == self._me.host:
            alive = owner.runs_here()
        else:
            self._say(f"{self._path} is held by a job on {owner.host}: watching it for {self._patience:.0f} s …")
            deadline = time.monotonic() + self._patience
            while not (alive := _Owner.read(self._path) != owner) and time.monotonic() < deadline:
                time.sleep(min(1.0, self._patience / 10))
        if alive:
            raise RunDirectoryError(
                f"Process {owner.pid} on {owner.host} is training in {self._path.parent}. Wait for it or stop it, or "
                f"choose another --model_dir. (If that job can't be alive, delete {self._path}.)"
            )
        self._say(f"Process {owner.pid} on {owner.host}, which held {self._path}, is gone: taken over.")

    def _is_mine(self) -> bool:
        owner = _Owner.read(self._path)
        return owner is not None and (owner.host, owner.pid, owner.started) == (
            self._me.host,
            self._me.pid,
            self._me.started,
        )

    def _beat(self) -> None:
        beat = 0
        while not self._stop.wait(HEARTBEAT_SECONDS):
            beat += 1
            with contextlib.suppress(OSError):  # a full disk must not end the run here; saving will say it
                if self._is_mine():
                    dataclasses.replace(self._me, beat=beat).write(self._path)
