"""Foreign data → a data directory, on Apache Beam.

The source's units are independent: each becomes one shard, by one call (`shard_writer.write_shard`), in whatever
process a Beam runner gives it to. Nothing is grouped or shuffled (the stream shuffles when it reads), so that any
runner will do, and a build that is stopped goes on with the shards that are missing.
"""

import dataclasses
import hashlib
import json
import logging
import os
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from paligax.data import records
from paligax.data.ingest import admission, files, finishing, keep, shard_writer
from paligax.data.ingest.reader import Problem, Reader, Record
from paligax.data.ingest.shard_writer import Place, Plan
from paligax.data.ingest.stage import Stage
from paligax.data.runtime import tf


class Apply(beam.PTransform):
    """A stage as a transform of a collection of flat records: ``kept, removed = records | Apply(stage)``.

    ``removed`` holds (reason, record).
    """

    def __init__(self, stage: Stage):
        super().__init__()
        self._stage = stage

    def expand(self, found: beam.PCollection) -> tuple[beam.PCollection, beam.PCollection]:
        batches = found | beam.BatchElements(min_batch_size=1, max_batch_size=self._stage.batch_size)
        done = batches | beam.ParDo(_ApplyStage(self._stage)).with_outputs("removed", main="kept")
        return done.kept, done.removed


class _ApplyStage(beam.DoFn):
    def __init__(self, stage: Stage):
        self._stage = stage

    def setup(self) -> None:
        self._stage.setup()

    def process(self, batch: list[Record]) -> Iterator[Any]:
        batch = [dict(record) for record in batch]  # Beam's elements aren't ours to change
        for record, reason in zip(batch, self._stage.apply(batch), strict=True):
            yield beam.pvalue.TaggedOutput("removed", (reason, record)) if reason else record


class _WriteShard(beam.DoFn):
    def __init__(self, plan: Plan):
        self._plan = plan

    def setup(self) -> None:
        for stage in self._plan.stages:
            stage.setup()

    def process(self, index: int) -> Iterator[str]:
        unit = json.loads(_read(_unit_file(self._plan.place, index)))
        yield shard_writer.write_shard(self._plan, index, unit)["path"]


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
      The split's summary: "records", "shards", "bytes", "items", "problems", "removed", "languages", "sides",
      "samples".

    Raises:
      ValueError: the split is there already, or a build of other data is under way there.
    """
    if not split.replace("_", "").isalnum():
        raise ValueError(f"split={split!r}: use letters, digits and underscores, like train or validation.")
    place = Place(os.fspath(directory), split, name)
    described = {"source": _described(reader), "stages": [_described(s) for s in stages], "verify": verify}
    described |= {"name": name, "items": list(records.items(tuple(languages))), "files": _state(reader)}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:16]
    done = finishing.finished(place, digest)
    if done is not None:
        return done | {"built_before": True}
    count = _spill(place, reader, digest, described)
    plan = Plan(place, reader, tuple(stages), count, verify, tuple(languages))
    missing = [index for index in range(count) if not tf.io.gfile.exists(place.notes(index))]
    if missing:
        with beam.Pipeline(options=options(beam_arguments, len(missing))) as pipeline:
            _ = (
                pipeline
                | "Units" >> beam.Create(missing)
                | "Spread" >> beam.Reshuffle()
                | "Shards" >> beam.ParDo(_WriteShard(plan))
            )
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
        with beam.Pipeline(options=options(beam_arguments)) as pipeline:
            _ = (
                pipeline
                | "Units" >> beam.Create([json.dumps(unit) for unit in reader.units()])
                | "Spread" >> beam.Reshuffle()
                | "Scores" >> beam.FlatMap(_scores, reader=reader, key=key)
                | keep.TopFraction(fraction, per_key=bool(key))
                | "Text" >> beam.MapTuple(lambda key, threshold: json.dumps([key, *threshold]))
                | beam.io.WriteToText(os.path.join(work, "found"))
            )
        files = sorted(tf.io.gfile.glob(os.path.join(work, "found*")))
        lines = [line for file in files for line in _read(file).decode().splitlines()]
    finally:
        tf.io.gfile.rmtree(work)
    if not lines:
        raise ValueError(f"No record of {reader} has a score. Score them first: `paligax data build --score_with=…`.")
    return {name: (score, tie) for name, score, tie in map(json.loads, lines)}


def _scores(unit: str, reader: Reader, key: str) -> Iterator[tuple[str, float, str]]:
    for record in reader.read(json.loads(unit)):
        if isinstance(record, Problem):
            continue
        admitted, _ = admission.admit(record)  # as it will come in
        if admitted is not None:
            yield keep.scored(admitted, key)


def options(arguments: Sequence[str] = (), most_workers: int = 1 << 16) -> PipelineOptions:
    """Beam's options. Without another --runner it is Beam's own on this machine, with a process for each core.

    ``most_workers``: as many as there is work for.
    """
    given = dict(word.removeprefix("--").partition("=")[::2] for word in arguments)
    if given.get("runner", "DirectRunner") == "DirectRunner":
        given["runner"] = "FnApiRunner"
        given.setdefault("direct_running_mode", "multi_processing")
    if given.get("direct_running_mode") == "multi_processing":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        given.setdefault("direct_num_workers", str(min(cores, most_workers)))
        if given["direct_num_workers"] == "1":  # a process of its own would only have TensorFlow to import
            given["direct_running_mode"] = "in_memory"
    given.setdefault("default_sdk_harness_log_level", "WARNING")
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    return PipelineOptions([f"--{name}={value}" if value else f"--{name}" for name, value in given.items()])


def _state(reader: Reader) -> dict[str, str]:
    """Option → hash of names, sizes and times of the files that it names: it changes with the source."""
    found = {}
    for field in dataclasses.fields(reader):
        value = getattr(reader, field.name)
        if not isinstance(value, str) or not value or "/" not in value and not os.path.exists(value):
            continue
        try:
            paths = [value] if tf.io.gfile.isdir(value) and field.name == "images" else files.matching(value)
            stats = [(path, tf.io.gfile.stat(path)) for path in paths]
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
    count = 0
    for unit in reader.units():
        shard_writer.write_atomically(_unit_file(place, count), json.dumps(unit).encode())
        count += 1
    if not count:
        raise ValueError(f"{reader} has nothing to read.")
    plan = {"digest": digest, "described": described, "count": count}
    shard_writer.write_atomically(plan_file, json.dumps(plan, default=str).encode())
    return count


def _unit_file(place: Place, index: int) -> str:
    return os.path.join(place.work, f"{index:05}.unit")


def _read(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as f:
        return f.read()


def _described(thing: Reader | Stage) -> dict[str, Any]:
    return {"kind": type(thing).__name__, **dataclasses.asdict(thing)}
