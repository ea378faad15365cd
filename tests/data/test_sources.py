import pytest
import seqio

from paligax.data import records, shards
from paligax.data.sources import RecordSource


@pytest.fixture
def directory(tmp_path):
    written = [{"id": f"r{i}", "image": b"x", "qa": [{"question": "?"}] * i} for i in range(4)]
    shards.write_shards(str(tmp_path), "train", [records.encode(r) for r in written], num_shards=2)
    records.write_manifest(str(tmp_path))
    return str(tmp_path)


def test_entries_are_the_items_asked_for(directory):
    assert RecordSource(directory).num_input_examples("train") == 4
    source = RecordSource(directory, items="qa")
    assert source.num_input_examples("train") == 6 and source.splits == ("train",)
    assert len(source.list_shards("train")) == 2


def test_seqio_can_read_it(directory):
    source = RecordSource(directory, items="qa")
    everything = list(source.get_dataset("train").as_numpy_iterator())
    assert sorted(e["item"] for e in everything) == [0, 0, 0, 1, 1, 2]
    assert records.decode(everything[0]["record"])["qa/question"]
    assert everything[0]["seed"].shape == (2,)
    halves = [list(source.get_dataset("train", shard_info=seqio.ShardInfo(i, 2))) for i in range(2)]
    assert [len(half) for half in halves] == [3, 3]


def test_nothing_is_opened_before_it_is_needed(tmp_path):
    source = RecordSource(str(tmp_path / "nowhere"), items="qa")
    with pytest.raises(FileNotFoundError, match="manifest.json"):
        source.num_input_examples("train")


def test_unknown_splits_and_items_are_told(directory):
    with pytest.raises(ValueError, match="no split 'test'; it has train"):
        RecordSource(directory).entries("test")
    with pytest.raises(ValueError, match="no split 'test'"):
        RecordSource(directory, split="test").entries("test")
    with pytest.raises(ValueError, match="did you mean 'qa'"):
        RecordSource(directory, items="qaa").entries("train")
