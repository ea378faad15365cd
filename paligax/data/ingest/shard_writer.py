"""One unit of a source → one ArrayRecord shard and, beside it, all that the manifest and the report will say of it."""

import base64
import collections
import dataclasses
import hashlib
import io
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from paligax import image as image_lib
from paligax.data import records, shards
from paligax.data.ingest import admission
from paligax.data.ingest.reader import Problem, Reader, Record, Unit
from paligax.data.ingest.stage import Stage
from paligax.data.runtime import tf

SAMPLES = 8  # kept for people to look at, of each reason in each unit
THUMBNAIL = 96  # their longer side in pixels


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
        """uint16[kinds, records], in the order of records.items."""
        return os.path.join(self.work, f"{index:05}.npy")


@dataclasses.dataclass
class Tally:
    """What happened while one shard was made."""

    reasons: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    removed: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    languages: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    sides: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    samples: dict[str, list[dict[str, str]]] = dataclasses.field(default_factory=dict)

    def sample(self, reason: str, name: str, record: Record | None = None) -> None:
        """Keeps the SAMPLES with the smallest hashes: as good as drawn, and the same in every build."""
        name = name.encode("utf-8", "replace").decode()  # foreign names may hold half a surrogate pair
        key = hashlib.sha256(f"{reason}/{name}".encode()).hexdigest()[:16]
        kept = self.samples.setdefault(reason, [])
        if len(kept) == SAMPLES and key >= kept[-1]["key"]:
            return
        kept.append({"key": key, "name": name, **(_shown(record) if record else {})})
        kept.sort(key=lambda sample: sample["key"])
        del kept[SAMPLES:]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is built.

    Attributes:
      place: where.
      reader: the source.
      stages: what records go through.
      count: number of shards.
      verify: decode every image and leave out what fails.
      languages: whose index entries are counted beside English's (``records.items``).
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

    place, tally, counts = plan.place, Tally(), []
    kinds = list(records.items(plan.languages))
    part = os.path.join(place.work, f"{index:05}-{uuid.uuid4().hex[:8]}.part")
    local = _local(part)
    digest = hashlib.sha256()
    writer = array_record_module.ArrayRecordWriter(local, shards.WRITER_OPTIONS)
    try:
        for record in _through(plan.stages, _admitted(plan, unit, tally), tally):
            try:
                serialized = records.encode(record)
            except (ValueError, TypeError) as error:  # a field that its reader made something else of
                tally.reasons[f"failed: {type(error).__name__}"] += 1
                continue
            digest.update(serialized)
            writer.write(serialized)
            counts.append(records.count_items(record, plan.languages))
            _note(record, tally)
    finally:
        writer.close()
    final = place.shard(index, plan.count)
    if local != part:
        tf.io.gfile.copy(local, part, overwrite=True)
        os.remove(local)
    array = np.asarray(counts, np.uint16).reshape(-1, len(kinds)).T
    size = tf.io.gfile.stat(part).length
    notes = {
        "path": os.path.basename(final),
        "records": array.shape[1],
        "bytes": size,
        "sha256": digest.hexdigest(),  # of the records one behind the other
        "items": dict(zip(kinds, array.sum(axis=1, dtype=np.int64).tolist(), strict=True)),
        "problems": dict(tally.reasons),
        "removed": dict(tally.removed),
        "languages": dict(tally.languages),
        "sides": dict(tally.sides),
        "samples": tally.samples,
    }
    saved = io.BytesIO()
    np.save(saved, array)
    write_atomically(place.counts(index), saved.getvalue())
    tf.io.gfile.rename(part, final, overwrite=True)
    write_atomically(place.notes(index), json.dumps(notes, ensure_ascii=False).encode())  # last: it says "finished"
    return notes


def write_atomically(path: str, data: bytes) -> None:
    """A file that is there is whole."""
    part = f"{path}-{uuid.uuid4().hex[:8]}.part"
    with tf.io.gfile.GFile(part, "wb") as f:
        f.write(data)
    tf.io.gfile.rename(part, path, overwrite=True)


def _local(path: str) -> str:
    """ArrayRecord writes to local files alone."""
    if "://" not in path:
        return path
    import tempfile

    return os.path.join(tempfile.gettempdir(), os.path.basename(path))


def _admitted(plan: Plan, unit: Unit, tally: Tally) -> Iterator[Record]:
    for item in plan.reader.read(unit):
        if isinstance(item, Problem):
            tally.reasons[item.reason] += 1
            tally.sample(item.reason, item.where)
            continue
        try:
            record, reasons = admission.admit(item, plan.verify)
        except Exception as error:  # noqa: BLE001  (one record, whatever it holds, doesn't stop a build)
            record, reasons = None, [f"failed: {type(error).__name__}"]
        for reason in reasons:
            tally.reasons[reason] += 1
            tally.sample(reason, _name(item), record)
        if record is not None:
            yield record


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
            tally.removed[reason] += 1
            tally.sample(reason, _name(record), record)
        else:
            yield record


def _note(record: Record, tally: Tally) -> None:
    for key in ("alt_text/lang", "ocr/lang", "qa/lang"):
        for lang in record[key]:
            tally.languages[f"{key.split('/')[0]} {lang or 'und'}"] += 1
    if record["text"]:
        tally.languages[f"text {record['text_lang'] or 'und'}"] += 1
    if record["image"]:
        side = min(image_lib.size(record["image"]))
        tally.sides[str(1 << (side.bit_length() - 1))] += 1  # shorter side: 256 stands for 256 … 511


def _name(record: Record) -> str:
    name = record.get("id", "")
    return name.decode(errors="replace")[:200] if isinstance(name, bytes) else str(name)[:200]


def _shown(record: Record) -> dict[str, str]:
    """What people look at: a small picture and the first text."""
    texts = [*record["alt_text/text"], *record["qa/question"], *record["ocr/text"], record["text"]]
    shown = {"text": next((text for text in texts if text), "")[:300]}
    if record["score"] == record["score"]:
        shown["score"] = f"{record['score']:.4f}"
    if record["image"]:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(record["image"])) as picture:
                picture.draft("RGB", (THUMBNAIL, THUMBNAIL))
                small = picture.convert("RGB")
                small.thumbnail((THUMBNAIL, THUMBNAIL))
                out = io.BytesIO()
                small.save(out, "JPEG", quality=70)
            shown["picture"] = base64.b64encode(out.getvalue()).decode()
        except Exception:  # noqa: BLE001  (decoders of foreign bytes raise anything; there is no picture then)
            pass
    return shown
