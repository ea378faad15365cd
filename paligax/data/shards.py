"""ArrayRecord shards on disk: writing them, counting them in a manifest, and reading records by number.

A data directory holds shards named as tfds names them (``NAME-SPLIT.array_record-00000-of-00008``) and beside them

    manifest.json               {"schema": 1, "splits": {SPLIT: {"shards": [{"path", "records", "bytes", "items"}],
                                                                  "items": {KIND: total}}}}
    manifest/SPLIT.KIND.npy     uint16[records]: how many index entries of that kind each record has

so that nothing is opened to know how many positions an epoch has, and only the shards that are read are ever opened.
"""

import collections
import dataclasses
import functools
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from paligax.data import records
from paligax.data.runtime import tf

SCHEMA_VERSION = 1
_SHARD = re.compile(r"^(?P<name>.+)-(?P<split>[^-.]+)\.array_?record-(?P<index>\d{5,})-of-(?P<count>\d{5,})$")
_WRITER_OPTIONS = "group_size:1"  # one record a group: random access reads nothing beside what it asks for
_READER_OPTIONS = "readahead_buffer_size:0"


def write_shards(directory: str, split: str, serialized: Iterable[bytes], num_shards: int = 1, name: str = "records"):
    """Writes serialized records round-robin into ``num_shards`` shards; ``write_manifest`` comes after all splits."""
    from array_record.python import array_record_module

    tf.io.gfile.makedirs(directory)
    files = [f"{name}-{split}.array_record-{i:05}-of-{num_shards:05}" for i in range(num_shards)]
    writers = [array_record_module.ArrayRecordWriter(os.path.join(directory, f), _WRITER_OPTIONS) for f in files]
    for i, record in enumerate(serialized):
        writers[i % num_shards].write(record)
    for writer in writers:
        writer.close()


def write_manifest(directory: str) -> str:
    """Counts records and index entries of every shard in the directory; returns the manifest's path.

    Works on any directory of ArrayRecord shards with this schema, tfds builders' included. Raises FileNotFoundError
    where there are none, or where a split's shards are not complete.
    """
    found = [match for file in _listing(directory) if (match := _SHARD.match(file))]
    if not found:
        raise FileNotFoundError(
            f"No ArrayRecord shards in {directory!r}: expected files named NAME-SPLIT.array_record-00000-of-00008."
        )
    manifest: dict[str, Any] = {"schema": SCHEMA_VERSION, "splits": {}}
    tf.io.gfile.makedirs(os.path.join(directory, "manifest"))
    for split in dict.fromkeys(match["split"] for match in found):
        files = {int(match["index"]): match for match in found if match["split"] == split}
        first = files[min(files)]
        for index in range(int(first["count"])):
            if index not in files:
                raise FileNotFoundError(
                    f"Split {split!r} is not complete: shard {index} of {int(first['count'])} is missing beside "
                    f"{first.string!r} in {directory!r}."
                )
        manifest["splits"][split] = _count_split(directory, split, [files[i].string for i in sorted(files)])
    path = os.path.join(directory, "manifest.json")
    with tf.io.gfile.GFile(path, "w") as f:
        f.write(json.dumps(manifest, indent=1))
    return path


def _count_split(directory: str, split: str, files: Sequence[str]) -> dict[str, Any]:
    shards, counts = [], {kind: [] for kind in records.ITEMS}
    for file in files:
        reader = _open(os.path.join(directory, file))
        here = {kind: [] for kind in records.ITEMS}
        num = reader.num_records()
        for start in range(0, num, 256):
            for serialized in reader.read(start, min(start + 256, num)):
                record = records.decode(serialized)
                for kind, count in records.ITEMS.items():
                    here[kind].append(count(record))
        reader.close()
        size = tf.io.gfile.stat(os.path.join(directory, file)).length
        totals = {kind: int(sum(here[kind])) for kind in here}
        shards.append({"path": file, "records": num, "bytes": size, "items": totals})
        for kind in counts:
            counts[kind] += here[kind]
    for kind in counts:
        with tf.io.gfile.GFile(os.path.join(directory, "manifest", f"{split}.{kind}.npy"), "wb") as f:
            np.save(f, np.asarray(counts[kind], np.uint16))
    return {"shards": shards, "items": {kind: int(sum(counts[kind])) for kind in counts}}


def _listing(directory: str) -> list[str]:
    return sorted(tf.io.gfile.listdir(directory)) if tf.io.gfile.isdir(directory) else []


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a data directory, as its manifest describes it."""

    directory: str
    name: str
    description: dict[str, Any]

    @functools.cached_property
    def paths(self) -> list[str]:
        return [os.path.join(self.directory, shard["path"]) for shard in self.description["shards"]]

    @functools.cached_property
    def ends(self) -> np.ndarray:
        """int64[shards]: number of records up to and including each shard."""
        return np.cumsum([shard["records"] for shard in self.description["shards"]], dtype=np.int64)

    @property
    def mean_record_bytes(self) -> float:
        total = sum(shard["bytes"] for shard in self.description["shards"])
        return max(1.0, total / max(1, int(self.ends[-1])))

    @property
    def digest(self) -> str:
        """Hash of what the manifest says of this split: it changes with the data."""
        return hashlib.sha256(json.dumps(self.description, sort_keys=True).encode()).hexdigest()[:16]

    def require_shards(self) -> None:
        """Raises FileNotFoundError that names the first shard which isn't there (one listing, nothing opened)."""
        there = set(_listing(self.directory))
        for shard in self.description["shards"]:
            if shard["path"] not in there:
                raise _missing(os.path.join(self.directory, shard["path"]))


def read_manifest(directory: str) -> dict[str, Split]:
    """Split name → Split. Raises FileNotFoundError or ValueError saying how a manifest is made."""
    path = os.path.join(directory, "manifest.json")
    if not tf.io.gfile.exists(path):
        below = tf.io.gfile.glob(os.path.join(directory, "*", "manifest.json"))
        below += tf.io.gfile.glob(os.path.join(directory, "*", "*", "manifest.json"))
        hint = f" Did you mean {os.path.dirname(sorted(below)[0])!r}?" if below else ""
        raise FileNotFoundError(
            f"No manifest.json in the data directory {directory!r}.{hint} Build the data set (`paligax data build`), "
            "or call paligax.data.records.write_manifest(directory) on a directory of ArrayRecord shards."
        )
    with tf.io.gfile.GFile(path) as f:
        manifest = json.load(f)
    if manifest.get("schema") != SCHEMA_VERSION:
        raise ValueError(f"{path} has schema {manifest.get('schema')}; expected {SCHEMA_VERSION}. Write it anew.")
    return {name: Split(directory, name, description) for name, description in manifest["splits"].items()}


class Entries:
    """Index entries of one kind in one split: entry → (record, item)."""

    def __init__(self, split: Split, kind: str):
        if kind not in split.description["items"]:
            import difflib

            known = list(split.description["items"])
            near = difflib.get_close_matches(kind, known, 1)
            raise ValueError(
                f"The manifest of {split.directory!r} counts no items {kind!r}"
                f"{f'; did you mean {near[0]!r}?' if near else '.'} Counted: {', '.join(known)}."
            )
        self._split, self._kind = split, kind
        self._ends = np.cumsum([shard["items"][kind] for shard in split.description["shards"]], dtype=np.int64)
        self._of_shard = functools.lru_cache(maxsize=256)(self._cumulative)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @functools.cached_property
    def _counts(self) -> np.ndarray:
        path = os.path.join(self._split.directory, "manifest", f"{self._split.name}.{self._kind}.npy")
        if os.path.exists(path):
            return np.load(path, mmap_mode="r")
        with tf.io.gfile.GFile(path, "rb") as f:
            return np.load(f)

    def _cumulative(self, shard: int) -> np.ndarray:
        end = self._split.ends[shard]
        start = end - self._split.description["shards"][shard]["records"]
        return np.cumsum(self._counts[start:end], dtype=np.int64)

    def locate(self, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """entries int64[n] → (record int64[n] in the split, item int64[n] in the record)."""
        if self._kind == "record":
            return entries, np.zeros_like(entries)
        found, items = np.empty_like(entries), np.empty_like(entries)
        shards = np.searchsorted(self._ends, entries, side="right")
        for shard in np.unique(shards):
            rows = shards == shard
            total = self._split.description["shards"][shard]
            within = entries[rows] - (self._ends[shard] - total["items"][self._kind])
            cumulative = self._of_shard(int(shard))
            record = np.searchsorted(cumulative, within, side="right")
            items[rows] = within - np.where(record > 0, cumulative[record - 1], 0)
            found[rows] = record + self._split.ends[shard] - total["records"]
        return found, items


class Readers:
    """Reads records by number; keeps at most ``capacity`` shards open and closes the least recently used first."""

    def __init__(self, capacity: int = 64):
        self._capacity = capacity
        self._open: collections.OrderedDict[str, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def read(self, split: Split, numbers: np.ndarray) -> list[bytes]:
        """numbers int64[n] → n serialized records, in that order. Raises FileNotFoundError naming a missing shard."""
        result: list[bytes] = [b""] * len(numbers)
        shards = np.searchsorted(split.ends, numbers, side="right")
        with self._lock:
            for shard in np.unique(shards):
                rows = np.flatnonzero(shards == shard)
                start = split.ends[shard] - split.description["shards"][shard]["records"]
                path = split.paths[shard]
                within = [int(n) for n in numbers[rows] - start]
                try:
                    values = self._reader(path).read(within)
                except (ValueError, RuntimeError, IndexError) as error:
                    raise OSError(f"Cannot read records {within[:3]}… of shard {path!r}: {error}") from error
                for row, value in zip(rows, values, strict=True):
                    result[row] = value
        return result

    def _reader(self, path: str) -> Any:
        if path not in self._open:
            while len(self._open) >= self._capacity:
                self._open.popitem(last=False)[1].close()
            self._open[path] = _open(path)
        self._open.move_to_end(path)
        return self._open[path]

    def close(self) -> None:
        with self._lock:
            while self._open:
                self._open.popitem()[1].close()


def _open(path: str) -> Any:
    from array_record.python import array_record_module

    if not tf.io.gfile.exists(path):
        raise _missing(path)
    try:
        return array_record_module.ArrayRecordReader(path, _READER_OPTIONS)
    except (RuntimeError, ValueError) as error:
        raise OSError(f"Shard {path!r} is not a readable ArrayRecord file: {error}") from error


def _missing(path: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"Shard {path!r} is named in the manifest but isn't there. Restore the file, or write the manifest anew "
        "(paligax.data.records.write_manifest) if the data set was rebuilt."
    )
