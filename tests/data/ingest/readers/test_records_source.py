import os

import pytest

from paligax.data import records, shards
from paligax.data.ingest.readers.records_source import Records
from tests.data.ingest.readers.reading import read, reasons


@pytest.fixture
def directory(tmp_path):
    path = str(tmp_path / "built")
    written = [{"id": f"r{i}", "image": b"x", "qa": [{"question": f"{i}?"}], "source": "mine"} for i in range(10)]
    shards.write_shards(path, "train", [records.encode(r) for r in written], num_shards=4)
    shards.write_shards(path, "test", [records.encode({"id": "t", "text": "text", "score": 0.5})])
    records.write_manifest(path)
    return path


def test_the_records_of_a_split(directory):
    found, problems = read(Records(directory))
    assert [r["id"] for r in found] == ["r0", "r4", "r8", "r1", "r5", "r9", "r2", "r6", "r3", "r7"]
    assert found[0]["qa/question"] == ["0?"] and found[0]["source"] == "mine" and problems == []
    assert records.encode(found[0]) == records.encode(records.decode(records.encode(found[0])))


def test_units(directory):
    assert [unit[1:] for unit in Records(directory, shards_per_unit=3).units()] == [["train", 0, 3], ["train", 3, 4]]
    both = Records(directory, split="")
    assert [unit[1:] for unit in both.units()] == [["test", 0, 1], *[["train", i, i + 1] for i in range(4)]]
    found, _ = read(both)
    assert (found[0]["id"], found[0]["source"], found[0]["score"]) == ("t", "records", 0.5) and len(found) == 11
    assert len(read(Records(f"{directory},{directory}"))[0]) == 20


def test_damaged_shards_cost_their_records(directory):
    path = next(os.path.join(directory, f) for f in os.listdir(directory) if "train" in f and "-00001-" in f)
    with open(path, "wb") as f:
        f.write(b"nothing of the kind" * 1000)
    found, problems = read(Records(directory))
    assert [r["id"] for r in found] == ["r0", "r4", "r8", "r2", "r6", "r3", "r7"]
    assert reasons(problems) == ["unreadable record"] * 3 and problems[0][1].endswith("-00001-of-00004 record 0")


def test_records_that_are_none_are_counted(tmp_path):
    path = str(tmp_path / "built")
    shards.write_shards(path, "train", [records.encode({"id": "a"}), records.encode({"id": "b"})])
    records.write_manifest(path)
    shards.write_shards(path, "train", [b"\xff\xff\xff", records.encode({"id": "b"})])
    found, problems = read(Records(path))
    assert [r["id"] for r in found] == ["b"] and reasons(problems) == ["unreadable record"]


def test_mistakes_are_told(directory, tmp_path):
    with pytest.raises(ValueError, match="no split 'tran'; did you mean 'train'"):
        list(Records(directory, split="tran").units())
    with pytest.raises(FileNotFoundError, match="manifest"):
        list(Records(str(tmp_path)).units())
    os.remove(next(os.path.join(directory, f) for f in os.listdir(directory) if "-00002-of-" in f))
    with pytest.raises(FileNotFoundError, match="00002-of-00004"):
        list(Records(directory).units())
