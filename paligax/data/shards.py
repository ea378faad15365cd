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
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from paligax.data import counts, items, manifest, remote, schema
from paligax.data.entries import Entries
from paligax.data.runtime import tf

_SHARD = re.compile(r"^(?P<name>.+)-(?P<split>[^-.]+)\.array_?record-(?P<index>\d{5,})-of-(?P<count>\d{5,})$")
WRITER_OPTIONS = "group_size:1"  # one record a group: random access reads nothing beside what it asks for
_READER_OPTIONS = "readahead_buffer_size:0"
_COUNTED_AT_ONCE = 256  # records in memory
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
    own index entries are counted ("qa:de") beside English and beside those that were counted before. What an earlier
    manifest says of a split's build stays where the records are still the same.

    Raises:
      FileNotFoundError: there are no shards, or not all of a split.
      ValueError: a split has shards of several builds, or one holds something else than records.
      OSError: a shard cannot be read.
    """
    before: dict[str, Any] = {}
    if manifest.exists(directory):
        try:
            manifest.read_shards(directory)  # raises where it isn't as it should be
            before = manifest.read(directory)
        except ValueError as error:
            log.warning("The manifest is written anew: %s", error)
    splits = {}
    for split, names in _complete(directory).items():
        earlier = before.get(split, {})
        own = [kind.partition(":")[2] for kind in earlier.get("items", {}) if ":" in kind]
        chosen = tuple(dict.fromkeys(code for code in [*languages, *own] if code != items.ALWAYS_COUNTED))
        splits[split] = _described(directory, split, names, chosen, earlier)
    for split in before.keys() - splits:
        log.warning("Split %r has no shards in %r any more: the manifest is written without it.", split, directory)
    return manifest.replace(directory, splits, before)


def _complete(directory: str) -> dict[str, list[str]]:
    """Split → its shards' file names, in order; see write_manifest."""
    found = [match for file in _listing(directory) if (match := _SHARD.match(file))]
    if not found:
        raise FileNotFoundError(
            f"No ArrayRecord shards in {directory!r}: expected files named NAME-SPLIT.array_record-00000-of-00008."
        )
    splits = {}
    for split in dict.fromkeys(match["split"] for match in found):
        builds: dict[tuple[str, str], dict[int, str]] = {}
        for match in found:
            if match["split"] == split:
                builds.setdefault((match["name"], match["count"]), {})[int(match["index"])] = match.string
        if len(builds) > 1:
            listed = "; ".join(
                f"{len(files)} of {int(count)} of {name}-{split}…-of-{count}" for (name, count), files in builds.items()
            )
            raise ValueError(
                f"Split {split!r} has shards of {len(builds)} builds in {directory!r}: {listed}. Remove those that it "
                "shall not have, or move them to another directory, and write the manifest again."
            )
        (((_, count), files),) = builds.items()
        for index in range(int(count)):
            if index not in files:
                raise FileNotFoundError(
                    f"Split {split!r} is not complete: shard {index} of {int(count)} is missing beside "
                    f"{files[min(files)]!r} in {directory!r}."
                )
        if len(files) > int(count):
            raise ValueError(f"Shard {files[max(files)]!r} in {directory!r} has a number beyond its count. Rename it.")
        splits[split] = [files[index] for index in sorted(files)]
    return splits


def _described(
    directory: str, split: str, names: Sequence[str], languages: tuple[str, ...], earlier: dict[str, Any]
) -> dict[str, Any]:
    """What the manifest says of a split, by reading all of it."""
    kinds = list(items.items(languages))
    paths = [os.path.join(directory, name) for name in names]
    sizes = [_num_records(path) for path in paths]
    writer = counts.CountsWriter(directory, split, kinds, sum(sizes))
    found: collections.Counter[str] = collections.Counter()
    shards = []
    for path, name, size in zip(paths, names, sizes, strict=True):
        digest, here = hashlib.sha256(), np.zeros((len(kinds), size), np.uint16)
        for row, (serialized, record) in enumerate(_records(path)):
            digest.update(serialized)
            here[:, row] = items.count_items(record, languages)
            found.update(items.languages_in(record))
        writer.append(here)
        shards.append(
            {
                "path": name,
                "records": size,
                "bytes": tf.io.gfile.stat(path).length,
                "sha256": digest.hexdigest(),  # of the records one behind the other, as a build writes it
                "items": dict(zip(kinds, here.sum(axis=1, dtype=np.int64).tolist(), strict=True)),
            }
        )
    description = {
        "shards": shards,
        "items": {kind: sum(shard["items"][kind] for shard in shards) for kind in kinds},
        "uniform": writer.close(),
        "languages": dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))),
    }
    more = {key: value for key, value in earlier.items() if key not in description}
    if more and [s.get("sha256") for s in earlier["shards"]] != [s["sha256"] for s in shards]:
        log.warning("The records of split %r are others than before: it no longer has %s.", split, ", ".join(more))
        more = {}
    return description | more


def _records(path: str) -> Iterator[tuple[bytes, schema.Record]]:
    reader = _open(path)
    try:
        total = reader.num_records()
        for start in range(0, total, _COUNTED_AT_ONCE):
            numbers = range(start, min(start + _COUNTED_AT_ONCE, total))
            for number, serialized in zip(numbers, _read_all(reader, path, numbers), strict=True):
                try:
                    record = schema.decode(serialized)
                except Exception as error:  # protobuf's DecodeError has no public base
                    raise ValueError(
                        f"Record {number:,} of shard {path!r} is no tf.train.Example with the fields of "
                        f"paligax/data/schema.py: {error}"
                    ) from error
                yield serialized, record
    finally:
        _close(reader)


def _read_all(reader: Any, path: str, numbers: range) -> list[bytes]:
    try:
        return reader.read(numbers.start, numbers.stop)
    except (ValueError, RuntimeError, IndexError):
        for number in numbers:
            try:
                reader.read([number])
            except (ValueError, RuntimeError, IndexError) as error:
                raise OSError(
                    f"Record {number:,} of shard {path!r} cannot be read: {error}. Restore or rebuild the shard."
                ) from error
        raise


def _num_records(path: str) -> int:
    reader = _open(path)
    try:
        return reader.num_records()
    finally:
        _close(reader)


def _listing(directory: str) -> list[str]:
    return sorted(tf.io.gfile.listdir(directory)) if tf.io.gfile.isdir(directory) else []


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """One split of a data directory, as its manifest describes it."""

    directory: str
    name: str
    shards: manifest.Shards

    @functools.cached_property
    def paths(self) -> list[str]:
        return [os.path.join(self.directory, name) for name in self.shards.names]

    @functools.cached_property
    def ends(self) -> np.ndarray:
        """int64[shards]: number of records up to and including each shard."""
        return np.cumsum(self.shards.records, dtype=np.int64)

    @property
    def num_records(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def mean_record_bytes(self) -> float:
        return max(1.0, int(self.shards.bytes.sum()) / max(1, self.num_records))

    @property
    def description(self) -> dict[str, Any]:
        """What the file says of this split: read again, it may be large. Raises ValueError where that has changed."""
        described = manifest.read(self.directory).get(self.name, {"shards": []})
        listed = [(shard["path"], shard["records"]) for shard in described["shards"]]
        if listed != list(zip(self.shards.names, self.shards.records.tolist(), strict=True)):
            raise ValueError(
                f"The manifest of {self.directory!r} has been written again since split {self.name!r} was opened, and "
                "describes other shards. Start again."
            )
        return described

    @functools.cached_property
    def digest(self) -> str:
        """Hash of what the manifest says of this split: it changes with the data."""
        return hashlib.sha256(json.dumps(self.description, sort_keys=True).encode()).hexdigest()[:16]

    def entries(self, kind: str) -> Entries:
        """The index of this kind. Tasks share it. Raises ValueError for a kind that the manifest doesn't count."""
        if kind not in self._entries:
            self._entries[kind] = Entries(self, kind)
        return self._entries[kind]

    @functools.cached_property
    def _entries(self) -> dict[str, Entries]:
        return {}

    def require_shards(self) -> None:
        """Raises FileNotFoundError that names the first shard which isn't there (one listing, nothing opened)."""
        there = remote.names(self.directory) or set(_listing(self.directory))
        for name in self.shards.names:
            if name not in there:
                raise _missing(os.path.join(self.directory, name))


def read_manifest(directory: str) -> dict[str, Split]:
    """Split name → Split. Read once, until the file changes: all tasks of a data set have the same Splits.

    What ArrayRecord can't read itself, such as s3://, is read by way of local copies: see `paligax.data.remote`.
    Raises FileNotFoundError or ValueError saying how a manifest is made.
    """
    directory = remote.local_directory(directory)
    return dict(_splits(directory, manifest.state(directory)))


@functools.lru_cache(maxsize=16)
def _splits(directory: str, state: tuple[int, ...]) -> dict[str, Split]:
    del state
    return {name: Split(directory, name, shards) for name, shards in manifest.read_shards(directory).items()}


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
                number = int(split.shards.records[shard])
                within = [int(n) for n in numbers[rows] - (split.ends[shard] - number)]
                values = self._read_some(split.paths[shard], within, number)
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

    remote.fetch(path)
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
