"""The manifest of a data directory: what its shards hold, so that nothing is opened to know how long an epoch is.

    manifest.json               {"schema": 1, "splits": {SPLIT: {
                                    "shards": [{"path", "records", "bytes", "items": {KIND: n}}],   (and "sha256")
                                    "items": {KIND: total},
                                    "uniform": {KIND: n}}}}       kinds that every record has equally often

The other kinds' counts of every record lie in files beside it (`paligax.data.counts`).
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import uuid
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from paligax.data.runtime import tf

SCHEMA_VERSION = 1
FILE = "manifest.json"


def exists(directory: str) -> bool:
    return tf.io.gfile.exists(os.path.join(directory, FILE))


def read(directory: str) -> dict[str, Any]:
    """The splits: name → description. Raises FileNotFoundError or ValueError saying how a manifest is made."""
    return _read(directory, None)


def _read(directory: str, hook: Any) -> dict[str, Any]:
    path = os.path.join(directory, FILE)
    if not exists(directory):
        below = tf.io.gfile.glob(os.path.join(directory, "*", FILE))
        below += tf.io.gfile.glob(os.path.join(directory, "*", "*", FILE))
        hint = f" Did you mean {os.path.dirname(sorted(below)[0])!r}?" if below else ""
        raise FileNotFoundError(
            f"No manifest.json in the data directory {directory!r}.{hint} Build the data set (`paligax data build`), "
            "or call paligax.data.records.write_manifest(directory) on a directory of ArrayRecord shards."
        )
    with tf.io.gfile.GFile(path) as f:
        try:
            manifest = json.loads(f.read(), object_pairs_hook=hook)
        except ValueError as error:
            raise ValueError(
                f"{path} is no JSON: {error}. Write it anew (paligax.data.records.write_manifest)."
            ) from error
    schema = manifest.get("schema") if isinstance(manifest, dict) else None
    if schema != SCHEMA_VERSION or not isinstance(manifest.get("splits"), dict):
        raise ValueError(
            f"{path} has schema {schema}; expected {SCHEMA_VERSION} and splits. Write it anew "
            "(paligax.data.records.write_manifest)."
        )
    return manifest["splits"]


def state(directory: str) -> tuple[int, ...]:
    """Changes when the manifest is written again; () where there is none."""
    path = os.path.join(directory, FILE)
    with contextlib.suppress(OSError):
        found = os.stat(path)  # a new file has another inode, even within one tick of the clock
        return found.st_mtime_ns, found.st_size, found.st_ino
    if not exists(directory):
        return ()
    found = tf.io.gfile.stat(path)
    return found.mtime_nsec, found.length


def write(directory: str, splits: dict[str, Any]) -> str:
    """Writes the manifest of these splits at once, never half; returns its path."""
    path = os.path.join(directory, FILE)
    part = f"{path}-{uuid.uuid4().hex[:8]}.part"
    with tf.io.gfile.GFile(part, "w") as f:
        f.write(_text(splits))
    tf.io.gfile.rename(part, path, overwrite=True)
    return path


def _text(splits: Mapping[str, Any]) -> str:
    """JSON with a shard a line: indented throughout, 10,000 of them take seconds to write."""
    described = []
    for name, description in splits.items():
        lines = {key: json.dumps(value, ensure_ascii=False) for key, value in description.items()}
        if isinstance(description.get("shards"), list):
            shards = ",\n  ".join(json.dumps(shard, ensure_ascii=False) for shard in description["shards"])
            lines["shards"] = f"[\n  {shards}]"
        body = ",\n ".join(f"{json.dumps(key, ensure_ascii=False)}: {line}" for key, line in lines.items())
        described.append(f"{json.dumps(name, ensure_ascii=False)}: {{\n {body}}}")
    return f'{{"schema": {SCHEMA_VERSION}, "splits": {{\n' + ",\n".join(described) + "}}\n"


def add(directory: str, split: str, description: dict[str, Any]) -> str:
    """Adds or replaces one split; the others stay."""
    with _alone(directory):
        there = read(directory) if exists(directory) else {}
        return write(directory, {**there, split: description})


def replace(directory: str, splits: Mapping[str, Any], before: Collection[str]) -> str:
    """Writes these splits in place of those known before; what somebody has added meanwhile stays."""
    with _alone(directory):
        there: Mapping[str, Any] = {}
        with contextlib.suppress(ValueError, FileNotFoundError):  # what cannot be read is replaced
            there = read(directory)
        added = {name: description for name, description in there.items() if name not in {*before, *splits}}
        return write(directory, {**splits, **added})


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


# ------------------------------------------------------------------------------------------------ in columns


@dataclasses.dataclass(frozen=True)
class Shards:
    """What the manifest says of one split's shards, in columns.

    10,000 shards with 200 kinds are 16 MB so; as the dictionaries of the file they would be 150.

    Attributes:
      names: file of each shard.
      records, bytes: int64[shards].
      kinds: kind → its column of items.
      items: int64[shards, kinds], index entries.
      uniform: the kinds that every record has equally often → how often.
    """

    names: tuple[str, ...]
    records: np.ndarray
    bytes: np.ndarray
    kinds: Mapping[str, int]
    items: np.ndarray
    uniform: Mapping[str, int]

    def items_of(self, kind: str) -> np.ndarray:
        """int64[shards]"""
        return self.items[:, self.kinds[kind]]


class _Numbers:
    """{name: integer} of the file, as an array."""

    def __init__(self, pairs: list[tuple[str, int]], same: dict[tuple[str, ...], tuple[str, ...]]):
        names, values = zip(*pairs, strict=True)
        self.names, self.values = same.setdefault(names, names), np.array(values, np.int64)

    def by_name(self) -> dict[str, int]:
        return dict(zip(self.names, self.values.tolist(), strict=True))


def read_shards(directory: str) -> dict[str, Shards]:
    """Split → its shards. Raises as ``read`` does; ValueError for a manifest that says something else."""
    same: dict[tuple[str, ...], tuple[str, ...]] = {}

    def hook(pairs: list[tuple[str, Any]]) -> Any:
        if pairs and all(type(value) is int and abs(value) < 1 << 62 for _, value in pairs):
            return _Numbers(pairs, same)
        return dict(pairs)

    splits = _read(directory, hook)
    try:
        return {name: _columns(description) for name, description in splits.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{os.path.join(directory, FILE)} doesn't describe its shards as it should: {type(error).__name__} "
            f"{error}. Write it anew (paligax.data.records.write_manifest)."
        ) from error


def _columns(description: dict[str, Any]) -> Shards:
    listed = description["shards"]
    kinds = {kind: column for column, kind in enumerate(_named(description["items"]))}
    items = np.zeros((len(listed), len(kinds)), np.int64)
    placed: dict[tuple[str, ...], list[int]] = {}
    for row, shard in enumerate(listed):
        numbers = shard["items"]
        if isinstance(numbers, _Numbers):
            if numbers.names not in placed:
                placed[numbers.names] = [kinds[kind] for kind in numbers.names]
            items[row, placed[numbers.names]] = numbers.values
    records, sizes = (np.array([shard[key] for shard in listed], np.int64) for key in ("records", "bytes"))
    uniform = _named(description.get("uniform", {}))
    return Shards(tuple(str(shard["path"]) for shard in listed), records, sizes, kinds, items, uniform)


def _named(numbers: Any) -> dict[str, int]:
    return numbers.by_name() if isinstance(numbers, _Numbers) else dict(numbers)
