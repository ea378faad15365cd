"""Foreign data → a data directory, on Apache Beam.

The source's units are independent: each becomes one shard, by one call (`shard_writer.write_shard`), in whatever
process a Beam runner gives it to. Nothing is grouped or shuffled (the stream shuffles when it reads), so that any
runner will do, and a build that is stopped goes on with the shards that are missing.
"""

import dataclasses
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam

from paligax.data.ingest import admission, files, finishing, keep, running, shard_writer
from paligax.data.ingest.apply import Apply, count
from paligax.data.ingest.beam_options import options
from paligax.data.ingest.reader import Problem, Reader
from paligax.data.ingest.shard_writer import Place, Plan
from paligax.data.ingest.stage import Stage
from paligax.data.items import items as items_of
from paligax.data.runtime import tf

__all__ = ["Apply", "build", "options", "top_fraction"]


class _WriteShard(beam.DoFn):
    def __init__(self, plan: Plan):
        self._plan = plan

    def setup(self) -> None:
        for stage in self._plan.stages:
            stage.setup()

    def process(self, index: int) -> Iterator[str]:
        notes = shard_writer.write_shard(self._plan, index, _unit(self._plan.place.work, index))
        count("records read", notes["read"])
        count("records written", notes["records"])
        for what in ("dropped", "removed"):
            for reason, number in notes[what].items():
                count(f"{what}: {reason}", number)
        yield notes["path"]


def build(
    reader: Reader,
    directory: str,
    split: str,
    stages: Sequence[Stage] = (),
    beam_arguments: Sequence[str] = (),
    verify: bool = False,
    languages: Sequence[str] = (),
    name: str = "records",
) -> dict[str, Any]:
    """Builds one split of a data directory, or goes on with a build that was stopped; other splits stay.

    Args:
      reader: the source.
      directory: of shards and manifest.
      split: letters, digits and underscores.
      stages: what records go through, in this order.
      beam_arguments: as Beam's own command lines take them; see :func:`options`.
      verify: decode every image and leave out what fails.
      languages: those whose own index entries are counted ("qa:de") beside English's.
      name: what the shards' names begin with.

    Returns:
      The split's summary: "read" = "records" + what is "dropped" + what is "removed" by stages (reason → records);
      "problems" (reason → all that was left out or changed, parts of records too), "parts" (kind → how many were
      "read", "left out" of their records, or "dropped" with them), "shards", "bytes", "items", "languages", "sides",
      "samples".

    Raises:
      ValueError: the split is there already, or a build of other data is under way there.
      running.WorkerDiedError: a process of this machine that did the work is gone, at most 21 s ago.
    """
    if not split.replace("_", "").isalnum():
        raise ValueError(f"split={split!r}: use letters, digits and underscores, like train or validation.")
    place = Place(os.fspath(directory), split, name)
    described = {"source": _described(reader), "stages": [_described(s) for s in stages], "verify": verify}
    described |= {"name": name, "items": list(items_of(tuple(languages))), "files": _state(reader)}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:16]
    done = finishing.finished(place, digest)
    if done is not None:
        return done | {"built_before": True}
    number = _spill(place, reader, digest, described)
    plan = Plan(place, reader, tuple(stages), number, verify, tuple(languages))
    missing = [index for index in range(number) if not tf.io.gfile.exists(place.notes(index))]
    if missing:
        pipeline = running.pipeline(options(beam_arguments, len(missing)))
        _ = (
            pipeline
            | "Units" >> beam.Create(missing)
            | "Spread" >> beam.Reshuffle()
            | "Shards" >> beam.ParDo(_WriteShard(plan))
        )
        try:
            running.run(pipeline)
        except running.WorkerDiedError as error:
            missing = [index for index in missing if not tf.io.gfile.exists(place.notes(index))]
            raise running.WorkerDiedError(
                f"{error} {len(missing):,} of {number:,} shards are missing: {_ranges(missing)}. Run the same command "
                "again: it goes on with these."
            ) from error
    return finishing.finish(plan, digest, described) | {"built_before": False}


def top_fraction(
    reader: Reader, fraction: float, key: str, directory: str, beam_arguments: Sequence[str] = ()
) -> dict[str, keep.Threshold]:
    """The thresholds above which the best ``fraction`` of a source's records lie, exactly.

    Args:
      reader: of records that have a score.
      fraction: of those that have one.
      key: "" for one threshold, "language" or "source" for one of each (keep.KEYS).
      directory: where the workers can write; what they write there is removed.

    Raises:
      ValueError: no record has a score.
    """
    work = os.path.join(directory, f".thresholds-{uuid.uuid4().hex[:8]}")
    tf.io.gfile.makedirs(work)
    try:
        number = _write_units(work, reader)
        pipeline = running.pipeline(options(beam_arguments, max(1, number)))
        _ = (
            pipeline
            | "Units" >> beam.Create(range(number))  # by number: what is in them may be gigabytes together
            | "Spread" >> beam.Reshuffle()
            | "Scores" >> beam.FlatMap(_scores, work=work, reader=reader, key=key)
            | keep.TopFraction(fraction, per_key=bool(key))
            | "Text" >> beam.MapTuple(lambda key, threshold: json.dumps([key, *threshold]))
            | beam.io.WriteToText(os.path.join(work, "found"))
        )
        try:
            running.run(pipeline)
        except running.WorkerDiedError as error:
            raise running.WorkerDiedError(
                f"{error} This was while scores were compared. Run the same command again."
            ) from error
        files = sorted(tf.io.gfile.glob(os.path.join(work, "found*")))
        lines = [line for file in files for line in _read(file).decode().splitlines()]
    finally:
        tf.io.gfile.rmtree(work)
    if not lines:
        raise ValueError(f"No record of {reader} has a score. Score them first: `paligax data build --score_with=…`.")
    return {name: (score, tie) for name, score, tie in map(json.loads, lines)}


def _scores(index: int, work: str, reader: Reader, key: str) -> Iterator[tuple[str, float, str]]:
    for record in reader.read(_unit(work, index)):
        if isinstance(record, Problem):
            continue
        admitted, _ = admission.admit(record)  # as it will come in
        if admitted is not None:
            yield keep.scored(admitted, key)


def _state(reader: Reader) -> dict[str, str]:
    """Option → hash of names, sizes and times of the files that it names: it changes with the source."""
    found = {}
    for field in dataclasses.fields(reader):
        value = getattr(reader, field.name)
        if not isinstance(value, str) or not value or "/" not in value and not os.path.exists(value):
            continue
        try:
            paths = [value] if tf.io.gfile.isdir(value) and field.name == "images" else files.matching(value)
            stats = [(path, tf.io.gfile.stat(path)) for path in paths if len(paths) == 1 or not tf.io.gfile.isdir(path)]
        except (OSError, tf.errors.OpError):
            continue
        text = "\n".join(f"{path} {stat.length} {stat.mtime_nsec}" for path, stat in stats)
        found[field.name] = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
    return found


def _spill(place: Place, reader: Reader, digest: str, described: dict[str, Any]) -> int:
    """Writes the units down, once a build; returns their number."""
    plan_file = os.path.join(place.work, "plan.json")
    if tf.io.gfile.exists(plan_file):
        plan = json.loads(_read(plan_file))
        if plan["digest"] != digest:
            raise ValueError(
                f"Another build of split {place.split!r} was begun in {place.directory!r}: of {plan['described']}, and "
                f"now it is {described}. Finish that one, or remove {place.work!r} to begin anew."
            )
        return plan["count"]
    tf.io.gfile.makedirs(place.work)
    count = _write_units(place.work, reader)
    if not count:
        raise ValueError(f"{reader} has nothing to read.")
    plan = {"digest": digest, "described": described, "count": count}
    shard_writer.write_atomically(plan_file, json.dumps(plan, default=str).encode())
    return count


def _write_units(folder: str, reader: Reader) -> int:
    """Writes the units into files, one by one; returns their number."""
    count = 0
    for unit in reader.units():
        shard_writer.write_atomically(_unit_file(folder, count), json.dumps(unit).encode())
        count += 1
    return count


def _unit(folder: str, index: int) -> Any:
    return json.loads(_read(_unit_file(folder, index)))


def _unit_file(folder: str, index: int) -> str:
    return os.path.join(folder, f"{index:05}.unit")


def _ranges(numbers: Sequence[int], most: int = 20) -> str:
    """[1, 2, 3, 7] → "1–3, 7"; of more than ``most`` ranges the first."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    shown = [f"{first}" if first == last else f"{first}–{last}" for first, last in ranges[:most]]
    return ", ".join(shown) + (", …" if len(ranges) > most else "")


def _read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as f:
        return f.read()


def _described(thing: Reader | Stage) -> dict[str, Any]:
    return {"kind": type(thing).__name__, **dataclasses.asdict(thing)}
