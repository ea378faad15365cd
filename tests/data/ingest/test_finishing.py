import json
import os
import pathlib

import numpy as np
import pytest

pytest.importorskip("apache_beam")

from paligax.data import items, manifest, records, shards
from paligax.data.ingest import finishing
from paligax.data.ingest.shard_writer import Place, Plan

KINDS = list(items.items())


def note(place, index, count, number, **more):
    """As write_shard leaves a shard with ``number`` records of text, of which the first half are English."""
    from array_record.python import array_record_module

    made = [{"id": f"{index}-{i}", "text": "a", "text_lang": "en" if 2 * i < number else "de"} for i in range(number)]
    made = [records.flatten(record) for record in made]
    writer = array_record_module.ArrayRecordWriter(place.shard(index, count), shards.WRITER_OPTIONS)
    for record in made:
        writer.write(records.encode(record))
    writer.close()
    counts = np.array([items.count_items(r) for r in made], np.uint16).reshape(-1, len(KINDS)).T
    np.save(place.counts(index), counts)
    told = {
        "path": place.shard(index, count).rpartition("/")[2],
        "read": number + 2,
        "records": number,
        "bytes": 10,
        "sha256": "0" * 64,
        "items": dict(zip(KINDS, counts.sum(axis=1, dtype=int).tolist(), strict=True)),
        "problems": {"image missing": 2},
        "dropped": {"image missing": 2},
        "removed": {},
        "parts": {"objects read": 3, "objects left out": 1, "labels read": 0},
        "languages": {"text en": (number + 1) // 2},
        "sides": {},
        "samples": {"image missing": [{"key": f"{index}{i}", "name": "x"} for i in range(8)]},
    }
    with open(place.notes(index), "w") as f:
        json.dump(told | more, f)


@pytest.fixture
def place(tmp_path):
    (tmp_path / ".ingest" / "train").mkdir(parents=True)
    return Place(str(tmp_path), "train")


def listed(place):
    return sorted(name for name in os.listdir(place.directory) if "array_record" in name)


def test_what_shards_tell_becomes_one_summary(place):
    for index in range(4):
        note(place, index, 4, 5)
    summary = finishing.finish(Plan(place, None, (), 4), "digest", {"source": {}})
    assert (summary["read"], summary["records"], summary["shards"]) == (28, 20, 4)
    assert summary["read"] == summary["records"] + sum(summary["dropped"].values()) + sum(summary["removed"].values())
    assert summary["parts"] == {"objects": {"read": 12, "left out": 4, "dropped": 0}}
    assert summary["items"]["text:en"] == 12 and summary["languages"] == {"text en": 12}
    assert len(summary["samples"]["image missing"]) == finishing.SAMPLES
    description = manifest.read(place.directory)["train"]
    for key in ("read", "records", "dropped", "removed", "problems", "parts"):
        assert description[key] == summary[key]
    split = shards.read_manifest(place.directory)["train"]
    assert len(shards.Entries(split, "text:en")) == 12 and description["uniform"]["text"] == 1
    assert not list(pathlib.Path(place.directory).glob(".ingest*"))


def test_shards_without_records_are_none(place):
    """Also where it was stopped between two renamings."""
    for index, number in enumerate((0, 3, 0, 2)):
        note(place, index, 4, number)
    os.rename(place.shard(1, 4), place.shard(0, 2))
    summary = finishing.finish(Plan(place, None, (), 4), "digest", {"source": {}})
    assert summary["shards"] == 2 and summary["read"] == 13
    assert listed(place) == [f"records-train.array_record-{i:05}-of-00002" for i in range(2)]
    split = shards.read_manifest(place.directory)["train"]
    found = [records.decode(r)["id"] for r in shards.Readers().read(split, np.arange(5))]
    assert found == ["1-0", "1-1", "1-2", "3-0", "3-1"]
    entries = shards.Entries(split, "text:en")
    assert [e.tolist() for e in entries.locate(np.arange(len(entries)))] == [[0, 1, 3], [0, 0, 0]]
    shards.write_manifest(place.directory)  # complete, as far as anybody can see


def test_nothing_at_all_leaves_nothing(place):
    note(place, 0, 1, 0)
    with pytest.raises(ValueError, match="No record came in for 'train': 2 × image missing. Nothing was built"):
        finishing.finish(Plan(place, None, (), 1), "digest", {})
    assert listed(place) == [] and not pathlib.Path(place.directory, "manifest.json").exists()


def test_what_is_done_is_found_again(place):
    assert finishing.finished(place, "digest") is None
    note(place, 0, 1, 2)
    summary = finishing.finish(Plan(place, None, (), 1), "digest", {"source": {}})
    assert finishing.finished(place, "digest") == summary
    assert finishing.finished(Place(place.directory, "validation"), "digest") is None
    with pytest.raises(ValueError, match="already has a split 'train', built of something else"):
        finishing.finished(place, "another")
    manifest.add(place.directory, "train", {"shards": [], "items": {}})  # which nobody ingested
    with pytest.raises(ValueError, match="already has"):
        finishing.finished(place, "digest")
