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
        self._kinds, self._uniform = kinds, dict.fromkeys(kinds, -1)
        self._paths = [counts_file(directory, split, kind) for kind in kinds]
        tf.io.gfile.makedirs(os.path.join(directory, "manifest"))
        self._files = [tf.io.gfile.GFile(path, "wb") for path in self._paths]
        header = {"descr": "<u2", "fortran_order": False, "shape": (total,)}
        for file in self._files:
            np.lib.format.write_array_header_1_0(file, header)

    def append(self, counts: np.ndarray) -> None:
        """uint16[kinds, records] of the next shard."""
        for kind, file, row in zip(self._kinds, self._files, counts, strict=True):
            file.write(row.astype("<u2").tobytes())
            if row.size:
                same = int(row[0]) if (row == row[0]).all() else None
                self._uniform[kind] = same if self._uniform[kind] in (-1, same) else None

    def close(self) -> dict[str, int]:
        """Removes the files that say nothing; returns the kinds that every record has equally often."""
        uniform = {kind: max(same, 0) for kind, same in self._uniform.items() if same is not None}
        for kind, path, file in zip(self._kinds, self._paths, self._files, strict=True):
            file.close()
            if kind in uniform:
                tf.io.gfile.remove(path)
        return uniform
