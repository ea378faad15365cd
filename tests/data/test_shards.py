import json
import os

import numpy as np
import pytest

from paligax.data import manifest, records, shards


@pytest.fixture
def directory(tmp_path):
    written = [{"id": f"r{i}", "image": b"x", "qa": [{"question": f"{j}"} for j in range(i % 3)]} for i in range(20)]
    path = str(tmp_path / "name" / "1.0.0")
    shards.write_shards(path, "train", [records.encode(r) for r in written], num_shards=3)
    shards.write_shards(path, "test", [records.encode(r) for r in written[:4]])
    records.write_manifest(path)
    return path


def test_the_manifest_counts_records_and_entries(directory):
    with open(os.path.join(directory, "manifest.json")) as f:
        manifest = json.load(f)
    assert manifest["schema"] == 1 and set(manifest["splits"]) == {"train", "test"}
    train = manifest["splits"]["train"]
    assert [shard["records"] for shard in train["shards"]] == [7, 7, 6]
    assert train["items"]["qa"] == 19 and train["items"]["record"] == 20
    assert all(shard["bytes"] > 0 for shard in train["shards"])


def test_entries_and_readers_find_every_item_once(directory):
    split, readers = shards.read_manifest(directory)["train"], shards.Readers(capacity=2)
    entries = shards.Entries(split, "qa")
    record, item = entries.locate(np.arange(len(entries)))
    found = set()
    for serialized, number in zip(readers.read(split, record), item, strict=True):
        example = records.decode(serialized)
        found.add((example["id"], example["qa/question"][number]))
    assert len(entries) == 19 and found == {(f"r{i}", f"{j}") for i in range(20) for j in range(i % 3)}
    shuffled = np.random.default_rng(0).permutation(19)
    assert (entries.locate(shuffled)[0] == record[shuffled]).all()


def test_readers_keep_few_shards_open(directory):
    split, readers = shards.read_manifest(directory)["train"], shards.Readers(capacity=2)
    first = readers.read(split, np.arange(20))
    assert len(readers._open) == 2
    assert readers.read(split, np.arange(20)[::-1]) == first[::-1]
    readers.close()
    assert not readers._open


def test_a_missing_shard_is_named(directory):
    split, readers = shards.read_manifest(directory)["train"], shards.Readers()
    os.remove(split.paths[1])
    with pytest.raises(FileNotFoundError, match="train.array_record-00001-of-00003"):
        split.require_shards()
    with pytest.raises(FileNotFoundError, match="train.array_record-00001-of-00003"):
        readers.read(split, np.arange(20))
    with pytest.raises(FileNotFoundError, match="shard 1 of 3 is missing"):
        records.write_manifest(directory)


def test_a_damaged_shard_is_named(directory):
    split = shards.read_manifest(directory)["test"]
    with open(split.paths[0], "wb") as f:
        f.write(b"nothing of the kind" * 1000)
    with pytest.raises(OSError, match="test.array_record-00000-of-00001"):
        shards.Readers().read(split, np.arange(2))


def test_missing_manifests_and_kinds_are_told(directory, tmp_path):
    with pytest.raises(FileNotFoundError, match="write_manifest"):
        shards.read_manifest(str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match=f"Did you mean '{directory}'"):
        shards.read_manifest(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="No ArrayRecord shards"):
        records.write_manifest(str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match="no items 'qas'; did you mean 'qa'"):
        shards.Entries(shards.read_manifest(directory)["train"], "qas")


def test_the_digest_follows_the_data(directory):
    before = shards.read_manifest(directory)["test"].digest
    assert before == shards.read_manifest(directory)["test"].digest
    shards.write_shards(directory, "test", [records.encode({"id": "other"})])
    records.write_manifest(directory)
    assert shards.read_manifest(directory)["test"].digest != before


def test_counting_again_keeps_what_a_build_said(directory):
    path = os.path.join(directory, "manifest.json")
    with open(path) as f:
        train = json.load(f)["splits"]["train"]
    assert all(len(shard["sha256"]) == 64 for shard in train["shards"]) and train["languages"] == {"qa und": 19}
    shards.write_manifest(directory, languages=["de"])
    built = {**manifest.read(directory)["train"], "build": "abc", "dropped": {"broken image": 3}}
    manifest.add(directory, "train", built)
    records.write_manifest(directory)
    assert manifest.read(directory)["train"] == built and "qa:de" in built["items"]


def test_counting_other_records_forgets_the_build_and_says_so(directory, caplog):
    manifest.add(directory, "test", {**manifest.read(directory)["test"], "build": "abc"})
    shards.write_shards(directory, "test", [records.encode({"id": f"other{i}", "image": b"x"}) for i in range(4)])
    os.remove(shards.read_manifest(directory)["train"].paths[0])
    for name in os.listdir(directory):
        if "-train." in name:
            os.remove(os.path.join(directory, name))
    records.write_manifest(directory)
    assert set(manifest.read(directory)) == {"test"} and "build" not in manifest.read(directory)["test"]
    assert "The records of split 'test' are others than before: it no longer has build." in caplog.text
    assert "Split 'train' has no shards" in caplog.text


def test_shards_of_several_builds_are_told(directory):
    before = manifest.read(directory)
    shards.write_shards(directory, "train", [records.encode({"id": "x"})] * 5, num_shards=2)
    os.remove(os.path.join(directory, "records-train.array_record-00001-of-00002"))
    with pytest.raises(ValueError, match="shards of 2 builds") as error:
        records.write_manifest(directory)
    assert "1 of 2 of records-train…-of-00002; 3 of 3 of records-train…-of-00003. Remove those" in str(error.value)
    assert manifest.read(directory) == before
    os.remove(os.path.join(directory, "records-train.array_record-00000-of-00002"))
    os.rename(
        os.path.join(directory, "records-test.array_record-00000-of-00001"),
        os.path.join(directory, "others-train.array_record-00000-of-00003"),
    )
    with pytest.raises(ValueError, match="1 of 3 of others-train…-of-00003; 3 of 3 of records-train"):
        records.write_manifest(directory)


def test_what_is_no_record_is_named(tmp_path):
    path = str(tmp_path)
    shards.write_shards(path, "train", [records.encode({"id": "a"}), b"\xff nothing of the kind"])
    with pytest.raises(ValueError, match=r"Record 1 of shard .*-00000-of-00001' is no tf.train.Example"):
        records.write_manifest(path)
    noise = np.random.default_rng(0).bytes(4000)
    shards.write_shards(path, "train", [records.encode({"id": f"r{i}", "image": noise}) for i in range(64)])
    file = tmp_path / "records-train.array_record-00000-of-00001"
    content = bytearray(file.read_bytes())
    for at in (len(content) // 5, len(content) // 2):
        content[at] ^= 4
    file.write_bytes(content)
    with pytest.raises(OSError, match=r"Record \d+ of shard .* cannot be read.*Restore or rebuild the shard"):
        records.write_manifest(path)


def test_an_unreadable_manifest_is_replaced(directory, caplog):
    before = manifest.read(directory)
    with open(os.path.join(directory, "manifest.json"), "w") as f:
        f.write('{"schema": 1, "spl')
    records.write_manifest(directory)
    assert manifest.read(directory) == before and "written anew" in caplog.text
