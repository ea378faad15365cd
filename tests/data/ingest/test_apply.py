import dataclasses
import json

import pytest

pytest.importorskip("apache_beam")

import apache_beam as beam

from paligax.data import records
from paligax.data.ingest import running
from paligax.data.ingest.apply import Apply, counters
from paligax.data.ingest.beam_options import options
from paligax.data.ingest.keep import KeepAbove
from paligax.data.ingest.stage import Stage
from paligax.data.ingest.tally import SAMPLES
from tests.data.toy import jpeg


@dataclasses.dataclass
class Short(Stage):
    batch_size: int = 7

    def apply(self, batch):
        for record in batch:
            record["source"] = "seen"
        return ["" if len(record["alt_text/text"][0]) > 3 else "caption too short" for record in batch]


def made(number):
    """Nested, as readers hand them on: every third one's caption is short."""
    return {"id": f"n{number}", "image": jpeg(1), "alt_text": [{"lang": "en", "text": "abc" if number % 3 else "abcd"}]}


def test_a_stage_on_any_records_counts_and_shows_what_it_removes(tmp_path):
    report = tmp_path / "told" / "short.json"
    pipeline = running.pipeline(options(["--runner=FnApiRunner"]))
    kept, removed = pipeline | beam.Create(range(100)) | beam.Map(made) | Apply(Short(), report)
    _ = kept | beam.Map(lambda r: f"{r['id']} {r['source']} {r['score']}") | "a" >> beam.io.WriteToText(f"{tmp_path}/a")
    _ = removed | beam.MapTuple(lambda why, r: f"{r['id']} {why}") | "b" >> beam.io.WriteToText(f"{tmp_path}/b")
    result = running.run(pipeline)
    assert counters(result) == {"Short: kept": 34, "Short: read": 100, "Short: removed: caption too short": 66}
    lines = {name: [line for f in tmp_path.glob(f"{name}-0*") for line in f.read_text().splitlines()] for name in "ab"}
    assert sorted(lines["a"]) == sorted(f"n{i} seen nan" for i in range(0, 100, 3))
    assert sorted(lines["b"]) == sorted(f"n{i} caption too short" for i in range(100) if i % 3)
    told = json.loads(report.read_text())
    samples = told.pop("samples")["caption too short"]
    assert told == {"stage": "Short", "read": 100, "kept": 34, "removed": {"caption too short": 66}}
    assert len(samples) == SAMPLES and all(s["picture"] and s["text"] == "abc" for s in samples)


def test_two_stages_behind_one_another(tmp_path):
    pipeline = running.pipeline(options(["--runner=FnApiRunner"]))
    made = [{"id": f"n{i}", "text": "x", "score": i / 10} for i in range(10)]
    found = pipeline | beam.Create([records.encode(one) for one in made])  # as they lie in shards
    best, _ = found | "best" >> Apply(KeepAbove({"": (0.5, 0)}))
    _, worse = best | "again" >> Apply(KeepAbove({"": (0.8, 0)}), str(tmp_path / "again.json"))
    assert counters(running.run(pipeline)) == {
        "KeepAbove: kept": 5 + 2,
        "KeepAbove: read": 10 + 5,
        "KeepAbove: removed: score below the top fraction": 5 + 3,
    }
    assert json.loads((tmp_path / "again.json").read_text())["read"] == 5


def test_a_report_of_nothing_says_so(tmp_path):
    pipeline = running.pipeline(options(["--runner=FnApiRunner"]))
    _ = pipeline | beam.Create([]) | Apply(Short(), str(tmp_path / "none.json"))
    running.run(pipeline)
    assert json.loads((tmp_path / "none.json").read_text())["read"] == 0
