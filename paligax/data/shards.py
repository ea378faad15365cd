"""ArrayRecord shards on disk: writing them, counting them in a manifest, and reading records by number.

A data directory holds shards named as tfds names them (``NAME-SPLIT.array_record-00000-of-00008``) and beside them the
manifest (`paligax.data.manifest`). Only the shards that are read are ever opened.
"""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from paligax.data import manifest, records
from paligax.data.runtime import tf

_SHARD = re.compile(r"^(?P<name>.+)-(?P<split>[^-.]+)\.array_?record-(?P<index>\d{5,})-of-(?P<count>\d{5,})$")
WRITER_OPTIONS = "group_size:1"  # one record a group: random access reads nothing beside what it asks for
_READER_OPTIONS = "readahead_buffer_size:0"
# Stands for a record that is damaged on disk. It is no tf.train.Example: the stream counts it as a broken record.
UNREADABLE = b"\xff unreadable"

log = logging.getLogger(__name__)


def write_shards(directory: str, split: str, serialized: Iterable[bytes], num_shards: int = 1, name: str = "records"):
    """Writes serialized records round-robin into ``num_shards`` shards; ``write_manifest`` comes after all splits."""
    from array_record.python import array_record_module

    tf.io.gfile.makedirs(directory)
    files = [f"{name}-{split}.array_record-{i:05}-of-{num_shards:05}" for i in range(num_shards)]
    writers = [array_record_module.ArrayRecordWriter(os.path.join(directory, f), WRITER_OPTIONS) for f in files]
    for i, record in enumerate(serialized):
        writers[i % num_shards].write(record)
    for writer in writers:
        writer.close()


def write_manifest(directory: str, languages: Sequence[str] = ()) -> str:
    """Counts records and index entries of every shard in the directory; returns the manifest's path.

    Works on any directory of ArrayRecord shards with this schema, tfds builders' included. ``languages``: those whose
    own index entries are counted ("qa:de") beside English. Raises FileNotFoundError where there are no shards, or where
    a split's shards are not complete.
    """
    found = [match for file in _listing(directory) if (match := _SHARD.match(file))]
    if not found:
        raise FileNotFoundError(
            f"No ArrayRecord shards in {directory!r}: expected files named NAME-SPLIT.array_record-00000-of-00008."
        )
    splits = {}
    for split in dict.fromkeys(match["split"] for match in found):
        files = {int(match["index"]): match for match in found if match["split"] == split}
        first = files[min(files)]
        for index in range(int(first["count"])):
            if index not in files:
                raise FileNotFoundError(
                    f"Split {split!r} is not complete: shard {index} of {int(first['count'])} is missing beside "
                    f"{first.string!r} in {directory!r}."
                )
        paths = [os.path.join(directory, files[i].string) for i in sorted(files)]
        splits[split] = _count_split(directory, split, paths, tuple(languages))
    return manifest.write(directory, splits)


def _count_split(directory: str, split: str, paths: Sequence[str], languages: tuple[str, ...]) -> dict[str, Any]:
    kinds = list(records.items(languages))
    counts = manifest.CountsWriter(directory, split, kinds, sum(_num_records(path) for path in paths))
    shards = []
    for path in paths:
        reader = _open(path)
        num = reader.num_records()
        here = np.zeros((len(kinds), num), np.uint16)
        for start in range(0, num, 256):
            for i, serialized in enumerate(reader.read(start, min(start + 256, num)), start):
                here[:, i] = records.count_items(records.decode(serialized), languages)
        reader.close()
        counts.append(here)
        totals = dict(zip(kinds, here.sum(axis=1, dtype=np.int64).tolist(), strict=True))
        size = tf.io.gfile.stat(path).length
        shards.append({"path": os.path.basename(path), "records": num, "bytes": size, "items": totals})
    items = {kind: sum(shard["items"][kind] for shard in shards) for kind in kinds}
    return {"shards": shards, "items": items, "uniform": counts.close()}


def _num_records(path: str) -> int:
    reader = _open(path)
    try:
        return reader.num_records()
    finally:
        reader.close()


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
    return {name: Split(directory, name, description) for name, description in manifest.read(directory).items()}


class Entries:
    """Index entries of one kind in one split: entry → (record, item).

    A kind of several languages ("qa:de+fr") has the entries of each of them together, as many as their kinds count.
    """

    def __init__(self, split: Split, kind: str):
        base, colon, languages = kind.partition(":")
        self._kinds = [f"{base}:{language}" for language in languages.split("+")] if colon else [kind]
        for counted in self._kinds:
            _require_counted(split, counted)
        self._split = split
        self._items = [sum(shard["items"][k] for k in self._kinds) for shard in split.description["shards"]]
        self._ends = np.cumsum(self._items, dtype=np.int64)
        self._of_shard = functools.lru_cache(maxsize=256)(self._cumulative)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @functools.cached_property
    def _uniform(self) -> int:
        """How many entries every record has, 0 where they differ."""
        uniform = self._split.description.get("uniform", {})
        return sum(uniform[kind] for kind in self._kinds) if all(kind in uniform for kind in self._kinds) else 0

    def _cumulative(self, shard: int) -> np.ndarray:
        split, uniform = self._split, self._split.description.get("uniform", {})
        end, number = split.ends[shard], split.description["shards"][shard]["records"]
        counts = np.zeros(number, np.int64)
        for kind in self._kinds:
            stored = self._counts.get(kind)
            counts += uniform[kind] if stored is None else stored[end - number : end]
        return np.cumsum(counts)

    @functools.cached_property
    def _counts(self) -> dict[str, np.ndarray]:
        uniform = self._split.description.get("uniform", {})
        stored = [kind for kind in self._kinds if kind not in uniform]
        return {kind: manifest.read_counts(self._split.directory, self._split.name, kind) for kind in stored}

    def locate(self, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """entries int64[n] → (record int64[n] in the split, item int64[n] in the record)."""
        if self._uniform:
            return entries // self._uniform, entries % self._uniform
        found, items = np.empty_like(entries), np.empty_like(entries)
        shards = np.searchsorted(self._ends, entries, side="right")
        for shard in np.unique(shards):
            rows = shards == shard
            total = self._split.description["shards"][shard]
            within = entries[rows] - (self._ends[shard] - self._items[shard])
            cumulative = self._of_shard(int(shard))
            record = np.searchsorted(cumulative, within, side="right")
            items[rows] = within - np.where(record > 0, cumulative[record - 1], 0)
            found[rows] = record + self._split.ends[shard] - total["records"]
        return found, items


def _require_counted(split: Split, kind: str) -> None:
    known = list(split.description["items"])
    if kind in known:
        return
    base, _, language = kind.partition(":")
    if language and base in known:
        raise ValueError(
            f"The manifest of {split.directory!r} doesn't count {kind!r}: it counts {base!r} in "
            f"{', '.join(k.partition(':')[2] for k in known if k.startswith(base + ':')) or 'no language'}. Count it: "
            f"paligax.data.records.write_manifest({split.directory!r}, languages=[{language!r}])."
        )
    import difflib

    near = difflib.get_close_matches(kind, known, 1)
    raise ValueError(
        f"The manifest of {split.directory!r} counts no items {kind!r}"
        f"{f'; did you mean {near[0]!r}?' if near else '.'} Counted: {', '.join(known)}."
    )


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
                values = self._read_some(path, within, split.description["shards"][shard]["records"])
                for row, value in zip(rows, values, strict=True):
                    result[row] = value
        return result

    def _read_some(self, path: str, within: list[int], expected: int) -> list[bytes]:
        reader = self._reader(path)
        try:
            return reader.read(within)
        except (ValueError, RuntimeError, IndexError) as error:
            try:
                whole = reader.num_records() == expected
            except (ValueError, RuntimeError):
                whole = False
            if not whole:
                raise OSError(f"Cannot read records {within[:3]}… of shard {path!r}: {error}") from error
        values = []
        for number in within:  # ArrayRecord's checksums tell which of them has changed
            try:
                values += reader.read([number])
            except (ValueError, RuntimeError, IndexError) as error:
                log.warning("Record %d of shard %r cannot be read: %s", number, path, error)
                values.append(UNREADABLE)
        return values

    def _reader(self, path: str) -> Any:
        if path not in self._open:
            while len(self._open) >= self._capacity:
                _close(self._open.popitem(last=False)[1])
            self._open[path] = _open(path)
        self._open.move_to_end(path)
        return self._open[path]

    def close(self) -> None:
        with self._lock:
            while self._open:
                _close(self._open.popitem()[1])


def _open(path: str) -> Any:
    from array_record.python import array_record_module

    if not tf.io.gfile.exists(path):
        raise _missing(path)
    try:
        return array_record_module.ArrayRecordReader(path, _READER_OPTIONS)
    except (RuntimeError, ValueError) as error:
        raise OSError(f"Shard {path!r} is not a readable ArrayRecord file: {error}") from error


def _close(reader: Any) -> None:
    with contextlib.suppress(RuntimeError):  # of a damaged shard: what could not be read has been told
        reader.close()


def _missing(path: str) -> FileNotFoundError:
    return FileNotFoundError(
        f"Shard {path!r} is named in the manifest but isn't there. Restore the file, or write the manifest anew "
        "(paligax.data.records.write_manifest) if the data set was rebuilt."
    )
