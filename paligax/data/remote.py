"""Data sets in object stores that ArrayRecord can't read itself: what is needed of them is brought to local disk.

A data directory such as ``s3://bucket/webli`` is stood for by a local one. It holds copies of the small files
(manifest, counts, lists), brought once, and those shards that were opened last, together at most so many bytes.
fsspec's drivers read the store (s3:// needs ``pip install paligax[s3]``) and find their credentials as they always do;
nothing of them is written or shown here. ``gs://`` and local paths are left as they are.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import pathlib
import re
import shutil
import threading
import time
from collections.abc import Iterator
from typing import Any

CACHE_DIR = "~/.cache/paligax/data"  # PALIGAX_CACHE_DIR
CACHE_GIB = 200.0  # PALIGAX_CACHE_GIB: of the shards of one data set
TRIES = 4
PAUSE_SECONDS = 1.0  # before the second try; four times as long before each further one
_SMALL_BYTES = 4 << 30  # all files but the shards: counts of a billion records are 2 GB a kind
_SHARD = re.compile(r"\.array_?record-\d+-of-\d+$")
_FOLDERS = ("manifest",)  # beside the files at the top: the counts of the index
_ELSEWHERE = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://")
_READ_DIRECTLY = ("gs", "file")

log = logging.getLogger(__name__)
_stores: dict[str, "Store"] = {}
_lock = threading.Lock()


def is_remote(directory: str) -> bool:
    """Whether a data directory must be brought here: s3:// and the like, not gs:// and local paths."""
    found = _ELSEWHERE.match(directory)
    return bool(found) and found["scheme"] not in _READ_DIRECTLY


def local_directory(directory: str) -> str:
    """The local directory that stands for a data directory: itself where it can be read directly.

    Raises:
      OSError: where the store can't be reached, or its small files don't fit.
      FileNotFoundError: where there is nothing.
      ImportError: where the store's driver is not installed.
    """
    if not is_remote(directory):
        return directory
    with _lock:
        remote = directory.rstrip("/")
        root = pathlib.Path(os.environ.get("PALIGAX_CACHE_DIR") or CACHE_DIR).expanduser()
        local = root / f"{remote.rpartition('/')[2]}-{hashlib.sha256(remote.encode()).hexdigest()[:12]}"
        if str(local) not in _stores:
            capacity = float(os.environ.get("PALIGAX_CACHE_GIB") or CACHE_GIB) * 2**30
            store = Store(remote, local, int(capacity))
            store.bring_small_files()
            _stores[str(local)] = store
        return str(local)


def fetch(path: str) -> None:
    """Brings a file of a directory that :func:`local_directory` gave, where it isn't there; does nothing for others."""
    directory, name = os.path.split(path)
    if store := _stores.get(directory):
        store.fetch(name)


def names(directory: str) -> set[str] | None:
    """Names of the files in the store that a local directory stands for; None where it stands for none."""
    store = _stores.get(directory)
    return None if store is None else set(store.sizes)


class Store:
    """One data directory in an object store, and its local directory.

    Args:
      remote: e.g. "s3://bucket/webli".
      local: made where it isn't there. Processes of one machine may share it.
      capacity: bytes that shards may take.
    """

    def __init__(self, remote: str, local: pathlib.Path, capacity: int):
        import fsspec

        self.remote, self.local, self.capacity = remote, local, capacity
        try:
            self._files, self._path = fsspec.core.url_to_fs(remote)
        except (ImportError, ValueError) as error:
            scheme = remote.partition("://")[0]
            raise ImportError(
                f"{remote} can't be read: {error}. The driver for {scheme}:// is an extra: pip install paligax[s3] "
                "(s3fs). Or mount the bucket, and name the mounted directory."
            ) from error
        self.local.mkdir(parents=True, exist_ok=True)
        self.sizes: dict[str, int] = {}  # by path below the directory, "manifest/…" too
        for name, size in self._listed(""):
            if size is not None:
                self.sizes[name] = size
            elif name in _FOLDERS:
                self.local.joinpath(name).mkdir(exist_ok=True)
                self.sizes |= {f"{name}/{inner}": size for inner, size in self._listed(name) if size is not None}
        if not self.sizes:
            raise FileNotFoundError(f"There is no file in {remote}.")

    def _listed(self, folder: str) -> list[tuple[str, int | None]]:
        """(name, bytes) of what lies in a folder; None for the bytes of a folder."""
        path = f"{self._path}/{folder}" if folder else self._path
        listing = self._tried(lambda: self._files.ls(path, detail=True, refresh=True), "be listed")
        entries = [(e["name"].rstrip("/").rpartition("/")[2], e) for e in listing]
        return [(name, int(e["size"]) if e["type"] == "file" else None) for name, e in entries if name]

    def bring_small_files(self) -> None:
        """Brings everything but the shards; again where a size has changed."""
        small = [name for name in self.sizes if not _SHARD.search(name)]
        if (total := sum(self.sizes[name] for name in small)) > _SMALL_BYTES:
            raise OSError(
                f"{self.remote} has {total / 2**30:.1f} GiB of files beside its shards; at most "
                f"{_SMALL_BYTES / 2**30:.0f} GiB are brought. Is it a data directory with a manifest.json?"
            )
        for name in small:
            self._bring(name)

    def fetch(self, name: str) -> None:
        """Brings a shard, and removes those that were opened longest ago where the capacity is exceeded."""
        if name not in self.sizes:
            raise FileNotFoundError(f"{self.remote}/{name} is not there.")
        if self.sizes[name] > self.capacity:
            raise OSError(
                f"{self.remote}/{name} has {self.sizes[name] / 2**30:.2f} GiB, and the cache {self.local} may hold "
                f"{self.capacity / 2**30:.2f} GiB in all: raise PALIGAX_CACHE_GIB, or write smaller shards."
            )
        self._bring(name)
        os.utime(self.local / name)
        self._make_room(keep=name)

    def _bring(self, name: str) -> None:
        target = self.local / name
        if self._is_here(name):
            return
        with self._locked(name):
            if self._is_here(name):  # brought by another process meanwhile
                return
            self._make_room(keep=name, needed=self.sizes[name])
            part = target.with_name(f"{target.name}.part")
            try:
                self._tried(lambda: self._download(name, part), f"be brought ({name})")
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)

    def _download(self, name: str, part: pathlib.Path) -> None:
        self._files.get_file(f"{self._path}/{name}", str(part))
        if (size := part.stat().st_size) != self.sizes[name]:
            raise OSError(f"{size} bytes came instead of {self.sizes[name]}")

    def _is_here(self, name: str) -> bool:
        try:
            return (self.local / name).stat().st_size == self.sizes[name]
        except FileNotFoundError:
            return False

    def _make_room(self, keep: str, needed: int = 0) -> None:
        """Removes shards, those opened longest ago first. One that is open can still be read until it is closed."""
        found = []
        for path in self.local.iterdir():
            if _SHARD.search(path.name) and path.name != keep:
                with contextlib.suppress(FileNotFoundError):
                    found.append((path.stat().st_mtime, path.stat().st_size, path))
        kept = needed or self.sizes[keep]
        total = kept + sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.capacity:
                break
            path.unlink(missing_ok=True)
            total -= size
        if needed and (free := shutil.disk_usage(self.local).free) < needed:
            raise OSError(
                f"The disk of the cache {self.local} has {free / 2**30:.2f} GiB free, {self.remote}/{keep} needs "
                f"{needed / 2**30:.2f} GiB: make room, or set PALIGAX_CACHE_DIR to a larger disk."
            )

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with (self.local / f".{name.replace('/', '-')}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _tried(self, call: Any, what: str) -> Any:
        """Calls; again, after a pause, where the store fails. Raises OSError after the last try."""
        for attempt in range(1, TRIES + 1):
            try:
                return call()
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{self.remote} can't {what}: there is no such file.") from error
            except Exception as error:
                reason = without_secrets(f"{type(error).__name__}: {error}")
                if attempt == TRIES:
                    raise OSError(
                        f"{self.remote} can't {what}, tried {TRIES} times: {reason}. See to the network and the "
                        "credentials of this machine, and start the same command again."
                    ) from None  # what the driver raised may show what must not be shown
                log.warning("%s can't %s (try %d of %d): %s", self.remote, what, attempt, TRIES, reason)
                time.sleep(PAUSE_SECONDS * 4 ** (attempt - 1))


def without_secrets(text: str) -> str:
    """One line of a driver's error, without what signed addresses and headers carry."""
    text = re.sub(r"(://)[^/\s@]*@", r"\1", " ".join(text.split()))
    text = re.sub(r"(https?://[^\s?'\"]*)\?[^\s'\"]*", r"\1?…", text)
    text = re.sub(
        r"(?i)\b(authorization|signature|secret|token|password|credential|accesskeyid)\b\S*\s*[=:>]\s*\S+", "…", text
    )
    return re.sub(r"\b(AKIA|ASIA)[A-Z0-9]{8,}\b", "…", text)[:500]
