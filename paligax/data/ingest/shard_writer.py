"""One unit of a source → one ArrayRecord shard and, beside it, all that the manifest and the report will say of it."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from paligax.data import records, shards
from paligax.data.ingest import admission
from paligax.data.ingest.reader import Problem, Reader, Record, Unit
from paligax.data.ingest.stage import Stage
from paligax.data.ingest.tally import Tally, name_of
from paligax.data.items import count_items
from paligax.data.items import items as items_of
from paligax.data.runtime import tf

_ROWS = 4096  # of counts, turned round at once


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a build writes.

    Attributes:
      directory: the data directory.
      split: which split is built.
      name: what the shards' names begin with.
    """

    directory: str
    split: str
    name: str = "records"

    @property
    def work(self) -> str:
        """Holds what a build that was stopped goes on with; removed when it is finished."""
        return os.path.join(self.directory, ".ingest", self.split)

    def shard(self, index: int, count: int) -> str:
        return os.path.join(self.directory, f"{self.name}-{self.split}.array_record-{index:05}-of-{count:05}")

    def notes(self, index: int) -> str:
        """Written when a shard is finished; JSON."""
        return os.path.join(self.work, f"{index:05}.json")

    def counts(self, index: int) -> str:
        """uint16[kinds, records], in the order of items.items."""
        return os.path.join(self.work, f"{index:05}.npy")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is built.

    Attributes:
      place: where.
      reader: the source.
      stages: what records go through.
      count: number of shards.
      verify: decode every image and leave out what fails.
      languages: whose index entries are counted beside English's (``paligax.data.items.items``).
    """

    place: Place
    reader: Reader
    stages: tuple[Stage, ...]
    count: int
    verify: bool = False
    languages: tuple[str, ...] = ()


def write_shard(plan: Plan, index: int, unit: Unit) -> dict[str, Any]:
    """Reads a unit, checks its records, runs them through the stages and writes the shard; returns its notes.

    Either the shard and its notes are there afterwards, or neither. Stages must have been set up.
    """
    from array_record.python import array_record_module

    place, tally, kinds = plan.place, Tally(), list(items_of(plan.languages))
    part = os.path.join(place.work, f"{index:05}-{uuid.uuid4().hex[:8]}.part")
    digest, final = hashlib.sha256(), place.shard(index, plan.count)
    with contextlib.ExitStack() as stack:
        local = _local(part, stack)
        counts = stack.enter_context(_Counts(len(kinds)))
        writer = array_record_module.ArrayRecordWriter(local, shards.WRITER_OPTIONS)
        try:
            for record in _through(plan.stages, _admitted(plan, unit, tally), tally):
                try:
                    serialized = records.encode(record)
                except (ValueError, TypeError) as error:  # a field that its reader made something else of
                    reason = f"failed: {type(error).__name__}"
                    tally.reasons[reason] += 1
                    tally.dropped[reason] += 1
                    continue
                digest.update(serialized)
                writer.write(serialized)
                counts.add(count_items(record, plan.languages))
                tally.write(record)
        finally:
            writer.close()
        if local != part:
            tf.io.gfile.copy(local, part, overwrite=True)
        counts.save(place.counts(index))
        notes = {
            "path": os.path.basename(final),
            "read": tally.read,
            "records": tally.written,
            "bytes": tf.io.gfile.stat(part).length,
            "sha256": digest.hexdigest(),  # of the records one behind the other
            "items": dict(zip(kinds, counts.totals.tolist(), strict=True)),
            "problems": dict(tally.reasons),
            "dropped": dict(tally.dropped),
            "removed": dict(tally.removed),
            "parts": dict(tally.parts),
            "languages": dict(tally.languages),
            "sides": dict(tally.sides),
            "samples": tally.samples,
        }
    tf.io.gfile.rename(part, final, overwrite=True)
    write_atomically(place.notes(index), json.dumps(notes, ensure_ascii=False).encode())  # last: it says "finished"
    return notes


class _Counts:
    """Index entries of the records, which lie in a temporary file: a shard may have any number of records.

    Attributes:
      totals: int64[kinds]
    """

    def __init__(self, kinds: int):
        self._file = tempfile.TemporaryFile()
        self.totals = np.zeros(kinds, np.int64)
        self._number = 0

    def __enter__(self) -> "_Counts":
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def add(self, counts: Sequence[int]) -> None:
        row = np.asarray(counts, "<u2")
        self.totals += row
        self._number += 1
        self._file.write(row.tobytes())

    def save(self, path: str) -> None:
        """Writes uint16[kinds, records] as .npy; the file that is there is whole."""
        self._file.flush()
        shape = (self._number, len(self.totals))
        rows = np.memmap(self._file, "<u2", "r", shape=shape) if self._number else np.zeros(shape, "<u2")
        part = f"{path}-{uuid.uuid4().hex[:8]}.part"
        with tf.io.gfile.GFile(part, "wb") as f:
            header = {"descr": "<u2", "fortran_order": False, "shape": shape[::-1]}
            np.lib.format.write_array_header_1_0(f, header)
            for kind in range(shape[1]):
                for first in range(0, shape[0], _ROWS):
                    f.write(rows[first : first + _ROWS, kind].tobytes())
        tf.io.gfile.rename(part, path, overwrite=True)


def write_atomically(path: str, data: bytes) -> None:
    """A file that is there is whole."""
    part = f"{path}-{uuid.uuid4().hex[:8]}.part"
    with tf.io.gfile.GFile(part, "wb") as f:
        f.write(data)
    tf.io.gfile.rename(part, path, overwrite=True)


def _local(path: str, stack: contextlib.ExitStack) -> str:
    """ArrayRecord writes to local files alone: for another one, a place that the stack removes."""
    if "://" not in path:
        return path
    folder = tempfile.mkdtemp()
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return os.path.join(folder, os.path.basename(path))


def _admitted(plan: Plan, unit: Unit, tally: Tally) -> Iterator[Record]:
    for item in plan.reader.read(unit):
        if isinstance(item, Problem):
            tally.problem(item)
            continue
        tally.read += 1
        try:
            before = admission.parts(item)
            record, reasons = admission.admit(item, plan.verify)
        except Exception as error:  # noqa: BLE001  (one record, whatever it holds, doesn't stop a build)
            before, record, reasons = {}, None, [f"failed: {type(error).__name__}"]
        tally.admitted(before, None if record is None else admission.parts(record))
        for reason in reasons:
            tally.reasons[reason] += 1
            tally.sample(reason, name_of(item), record)
        if record is not None:
            yield record
        else:
            tally.dropped[reasons[-1]] += 1  # of its image, which is looked at last


def _through(stages: Sequence[Stage], found: Iterator[Record], tally: Tally) -> Iterator[Record]:
    """Each stage in its own batches, one behind the other."""
    for stage in stages:
        found = _through_one(stage, found, tally)
    return found


def _through_one(stage: Stage, found: Iterator[Record], tally: Tally) -> Iterator[Record]:
    batch: list[Record] = []
    for record in found:
        batch.append(record)
        if len(batch) == stage.batch_size:
            yield from _apply(stage, batch, tally)
            batch = []
    if batch:
        yield from _apply(stage, batch, tally)


def _apply(stage: Stage, batch: list[Record], tally: Tally) -> Iterator[Record]:
    for record, reason in zip(batch, stage.apply(batch), strict=True):
        if reason:
            tally.remove(reason, record)
        else:
            yield record
