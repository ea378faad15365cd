"""A stage as a transform of its own, for pipelines of the user's."""

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from paligax.data import records
from paligax.data.ingest import shard_writer
from paligax.data.ingest.stage import Stage
from paligax.data.ingest.tally import SAMPLES, Tally
from paligax.data.runtime import tf

NAMESPACE = "paligax"  # of counters


def count(name: str, number: int = 1) -> None:
    """Adds to a counter of Beam's, which runners show and ``counters`` reads."""
    Metrics.counter(NAMESPACE, name).inc(number)


def counters(result: Any) -> dict[str, int]:
    """The counters of a pipeline that has run: name → number."""
    found: dict[str, int] = {}
    for one in result.metrics().query(beam.metrics.MetricsFilter().with_namespace(NAMESPACE))["counters"]:
        name = one.key.metric.name
        found[name] = found.get(name, 0) + (one.attempted if one.committed is None else one.committed)
    return dict(sorted(found.items()))


class Apply(beam.PTransform):
    """``kept, removed = records | Apply(stage)``; ``removed`` holds (reason, record).

    The records may be nested or flat, as ``paligax.data.records`` has them, or the bytes that shards hold; what is
    missing is empty. Those that come out are flat and have every field. Counted are "STAGE: read", "STAGE: kept" and
    "STAGE: removed: REASON" (see ``counters``), STAGE being the class.

    Args:
      stage: what is done to them.
      report: a JSON file: {"stage", "read", "kept", "removed": {reason: number}, "samples": {reason: [{"name", "text",
        "score", "picture"}]}}, of each reason up to SAMPLES for people to look at. "": none is written. For collections
        that aren't windowed.
    """

    def __init__(self, stage: Stage, report: str = ""):
        super().__init__()
        self._stage, self._report = stage, os.fspath(report)

    def expand(self, found: beam.PCollection):  # Beam would take a tuple's annotation for one of elements
        batches = found | beam.BatchElements(min_batch_size=1, max_batch_size=self._stage.batch_size)
        done = batches | beam.ParDo(_ApplyStage(self._stage, bool(self._report))).with_outputs(
            "removed", "told", main="kept"
        )
        if self._report:
            name = type(self._stage).__name__
            told = done.told | "Together" >> beam.CombineGlobally(_merge)
            _ = told | "Report" >> beam.Map(_write, path=self._report, stage=name)
        return done.kept, done.removed


class _ApplyStage(beam.DoFn):
    def __init__(self, stage: Stage, keeps_samples: bool):
        self._stage, self._keeps_samples = stage, keeps_samples

    def setup(self) -> None:
        self._stage.setup()

    def start_bundle(self) -> None:
        self._tally = Tally()

    def process(self, batch: list[Any]) -> Iterator[Any]:  # Beam checks what is said here
        name, tally = type(self._stage).__name__, self._tally
        # A copy: Beam's elements aren't ours to change.
        batch = [records.decode(one) if isinstance(one, bytes) else records.flatten(one) for one in batch]
        for record, reason in zip(batch, self._stage.apply(batch), strict=True):
            tally.read += 1
            count(f"{name}: read")
            if not reason:
                tally.written += 1
                count(f"{name}: kept")
                yield record
                continue
            count(f"{name}: removed: {reason}")
            if self._keeps_samples:
                tally.remove(reason, record)
            yield beam.pvalue.TaggedOutput("removed", (reason, record))

    def finish_bundle(self) -> Iterator[Any]:
        tally = self._tally
        if self._keeps_samples:
            told = {"read": tally.read, "kept": tally.written, "removed": dict(tally.removed), "samples": tally.samples}
            window = GlobalWindow()
            yield beam.pvalue.TaggedOutput("told", WindowedValue(told, window.max_timestamp(), [window]))


def _merge(some: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Adds up what bundles told; sums are told alike, so that they can be added again."""
    total: dict[str, Any] = {"read": 0, "kept": 0, "removed": {}, "samples": {}}
    for told in some:
        total["read"] += told["read"]
        total["kept"] += told["kept"]
        for reason, number in told["removed"].items():
            total["removed"][reason] = total["removed"].get(reason, 0) + number
        for reason, samples in told["samples"].items():
            both = [*total["samples"].get(reason, []), *samples]
            total["samples"][reason] = sorted(both, key=lambda sample: sample["key"])[:SAMPLES]
    return total


def _write(told: dict[str, Any], path: str, stage: str) -> None:
    tf.io.gfile.makedirs(os.path.dirname(path) or ".")
    written = json.dumps({"stage": stage, **told}, indent=1, ensure_ascii=False)
    shard_writer.write_atomically(path, written.encode())
