"""The manifest of a data directory: what its shards hold, so that nothing is opened to know how long an epoch is.

    manifest.json               {"schema": 1, "splits": {SPLIT: {
                                    "shards": [{"path", "records", "bytes", "items": {KIND: n}}],   (and "sha256")
                                    "items": {KIND: total},
                                    "uniform": {KIND: n}}}}       kinds that every record has equally often
    manifest/SPLIT.KIND.npy     uint16[records]: how many index entries of that kind each record has (the other kinds)
"""

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np

from paligax.data.runtime import tf

SCHEMA_VERSION = 1
FILE = "manifest.json"


def read(directory: str) -> dict[str, Any]:
    """The splits: name → description. Raises FileNotFoundError or ValueError saying how a manifest is made."""
    path = os.path.join(directory, FILE)
    if not tf.io.gfile.exists(path):
        below = tf.io.gfile.glob(os.path.join(directory, "*", FILE))
        below += tf.io.gfile.glob(os.path.join(directory, "*", "*", FILE))
        hint = f" Did you mean {os.path.dirname(sorted(below)[0])!r}?" if below else ""
        raise FileNotFoundError(
            f"No manifest.json in the data directory {directory!r}.{hint} Build the data set (`paligax data build`), "
            "or call paligax.data.records.write_manifest(directory) on a directory of ArrayRecord shards."
        )
    with tf.io.gfile.GFile(path) as f:
        manifest = json.load(f)
    if manifest.get("schema") != SCHEMA_VERSION:
        raise ValueError(f"{path} has schema {manifest.get('schema')}; expected {SCHEMA_VERSION}. Write it anew.")
    return manifest["splits"]


def write(directory: str, splits: dict[str, Any]) -> str:
    """Writes the manifest of these splits at once, never half; returns its path."""
    path = os.path.join(directory, FILE)
    part = f"{path}-{uuid.uuid4().hex[:8]}.part"
    with tf.io.gfile.GFile(part, "w") as f:
        f.write(json.dumps({"schema": SCHEMA_VERSION, "splits": splits}, indent=1, ensure_ascii=False))
    tf.io.gfile.rename(part, path, overwrite=True)
    return path


def add(directory: str, split: str, description: dict[str, Any]) -> str:
    """Adds or replaces one split; the others stay."""
    with _alone(directory):
        there = read(directory) if tf.io.gfile.exists(os.path.join(directory, FILE)) else {}
        return write(directory, {**there, split: description})


@contextlib.contextmanager
def _alone(directory: str) -> Iterator[None]:
    """Two builds may finish their splits at once; where the directory is local, one waits for the other."""
    if not os.path.isdir(directory):
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def counts_file(directory: str, split: str, kind: str) -> str:
    return os.path.join(directory, "manifest", f"{split}.{kind.replace(':', '-')}.npy")


def read_counts(directory: str, split: str, kind: str) -> np.ndarray:
    """uint16[records], mapped where the file is local."""
    path = counts_file(directory, split, kind)
    if os.path.exists(path):
        return np.load(path, mmap_mode="r")
    with tf.io.gfile.GFile(path, "rb") as f:
        return np.load(f)


class CountsWriter:
    """Writes the counts of one split, shard by shard, holding none of them.

    Args:
      kinds: in the order of the rows that ``append`` gets.
      total: number of records of all shards.
    """

    def __init__(self, directory: str, split: str, kinds: list[str], total: int):
        self._kinds, self._total, self._written = kinds, total, 0
        self._paths = {kind: counts_file(directory, split, kind) for kind in kinds}
        self._uniform: dict[str, int] = {}  # what all records have had so far, of kinds without a file
        self._files: dict[str, Any] = {}
        tf.io.gfile.makedirs(os.path.join(directory, "manifest"))

    def append(self, counts: np.ndarray) -> None:
        """uint16[kinds, records] of the next shard."""
        for kind, row in zip(self._kinds, counts, strict=True):
            if not row.size:
                continue
            same = self._uniform.setdefault(kind, int(row[0])) if kind not in self._files else None
            if kind not in self._files and (row != same).any():
                self._begin(kind, self._uniform.pop(kind))
            if kind in self._files:
                self._files[kind].write(row.astype("<u2").tobytes())
        self._written += counts.shape[1]

    def _begin(self, kind: str, before: int) -> None:
        """A kind's file, with what all records before had."""
        file = self._files[kind] = tf.io.gfile.GFile(self._paths[kind], "wb")
        header = {"descr": "<u2", "fortran_order": False, "shape": (self._total,)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, self._written, 1 << 20):
            file.write(np.full(min(1 << 20, self._written - start), before, "<u2").tobytes())

    def close(self) -> dict[str, int]:
        """Returns the kinds that every record has equally often, which have no file."""
        for file in self._files.values():
            file.close()
        for kind, path in self._paths.items():
            if kind not in self._files and tf.io.gfile.exists(path):  # of an earlier count
                tf.io.gfile.remove(path)
        return {kind: self._uniform.get(kind, 0) for kind in self._kinds if kind not in self._files}
