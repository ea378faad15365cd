import dataclasses
import json

import numpy as np
import pytest

pytest.importorskip("apache_beam")

from paligax.data import items
from paligax.data.ingest import shard_writer
from paligax.data.ingest.reader import PART, UNKNOWN, Problem, Reader
from paligax.data.ingest.shard_writer import Place, Plan
from paligax.data.ingest.stage import Stage
from tests.data.toy import jpeg

BOX, OUTSIDE, NONE = [0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 3.0, 3.0], [float("nan")] * 4


@dataclasses.dataclass(frozen=True)
class Everything(Reader):
    """What came of ten records: five are written, one is removed, four don't come in."""

    def units(self):
        yield 0

    def read(self, unit):
        for i in range(5):
            yield {"id": f"good{i}", "image": jpeg(i), "alt_text": [{"text": "a"}] * 2, "score": float(i)}
        objects = [("cat", BOX), ("dog", OUTSIDE), ("", BOX), ("cow", NONE)]
        yield {"id": "r", "image": jpeg(1), "objects": [{"label": x, "bbox": b} for x, b in objects], "score": 9.0}
        yield {"id": "broken", "image": jpeg(1)[:100], "qa": [{"question": "what?", "answer": "a"}], "labels": ["a"]}
        yield {"id": "none"}
        yield {"id": "odd", "text": 7, "labels": 3}
        yield Problem("image missing", "x")
        yield Problem("field not used", "x", PART, 5)
        yield Problem("damaged or cut file", "x", UNKNOWN)


@dataclasses.dataclass
class NotNine(Stage):
    def apply(self, records):
        return ["nine" if record["score"] == 9.0 else "" for record in records]


def written(tmp_path, reader, stages=()):
    (tmp_path / ".ingest" / "train").mkdir(parents=True)
    place = Place(str(tmp_path), "train")
    return place, shard_writer.write_shard(Plan(place, reader, tuple(stages), 1), 0, 0)


def test_what_is_read_is_written_or_told(tmp_path):
    place, notes = written(tmp_path, Everything(), [NotNine()])
    assert (notes["read"], notes["records"]) == (10, 5)
    assert notes["removed"] == {"nine": 1} and sum(notes["dropped"].values()) == 4
    assert (
        notes["dropped"]["image missing"] == notes["dropped"]["empty record"] == notes["dropped"]["broken image"] == 1
    )
    assert notes["problems"]["field not used"] == 5 and notes["problems"]["damaged or cut file"] == 1
    parts = {key: number for key, number in notes["parts"].items() if number}
    assert parts == {
        "alt_text read": 10,
        "objects read": 4,
        "objects left out": 1,
        "boxes read": 3,
        "boxes left out": 2,  # one outside, one with its label
        "qa read": 1,
        "qa dropped": 1,
        "labels read": 1,
        "labels dropped": 1,
    }
    assert json.loads((tmp_path / ".ingest" / "train" / "00000.json").read_text()) == notes
    assert not list(tmp_path.glob("**/*.part"))


def test_counts_of_any_number_of_records(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_ROWS", 7)

    class Texts(Everything):
        def read(self, unit):
            for i in range(100):
                yield {"id": str(i), "text": "a", "text_lang": ["en", "de", "en"][i % 3]}

    place, notes = written(tmp_path, Texts())
    counts = np.load(place.counts(0))
    kinds = list(items.items())
    assert counts.dtype == np.uint16 and counts.shape == (len(kinds), 100)
    assert counts[kinds.index("text")].tolist() == [1] * 100
    assert counts[kinds.index("text:en")].tolist() == [int(i % 3 != 1) for i in range(100)]
    assert notes["items"] == dict(zip(kinds, counts.sum(axis=1).tolist(), strict=True))


def test_no_record_at_all(tmp_path):
    class Nothing(Everything):
        def read(self, unit):
            yield Problem("image missing", "x", number=3)

    place, notes = written(tmp_path, Nothing())
    assert (notes["read"], notes["records"], notes["dropped"]) == (3, 0, {"image missing": 3})
    assert np.load(place.counts(0)).shape == (len(items.items()), 0)
