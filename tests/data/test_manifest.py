import json

import numpy as np
import pytest

from paligax.data import manifest, records, shards


def test_kinds_that_every_record_has_equally_often_need_no_file(tmp_path):
    writer = manifest.CountsWriter(str(tmp_path), "train", ["one", "some", "none"], 5)
    writer.append(np.array([[1, 1], [2, 0], [0, 0]], np.uint16))
    writer.append(np.zeros((3, 0), np.uint16))  # a shard without records
    writer.append(np.array([[1, 1, 1], [3, 3, 3], [0, 0, 0]], np.uint16))
    assert writer.close() == {"one": 1, "none": 0}
    assert manifest.read_counts(str(tmp_path), "train", "some").tolist() == [2, 0, 3, 3, 3]
    assert [f.name for f in (tmp_path / "manifest").iterdir()] == ["train.some.npy"]


def test_a_split_is_added_and_the_others_stay(tmp_path):
    manifest.add(str(tmp_path), "train", {"shards": []})
    manifest.add(str(tmp_path), "test", {"shards": [1]})
    manifest.add(str(tmp_path), "train", {"shards": [2]})
    assert manifest.read(str(tmp_path)) == {"train": {"shards": [2]}, "test": {"shards": [1]}}
    assert json.loads((tmp_path / "manifest.json").read_text())["schema"] == manifest.SCHEMA_VERSION
    assert [f.name for f in tmp_path.iterdir()] == ["manifest.json"]


def test_entries_of_languages(tmp_path):
    langs = [["en", "de"], ["de", "de", "fr"], [], ["fr", "en"]]
    written = [
        {"id": f"r{i}", "image": b"x", "qa": [{"lang": k, "question": "?"} for k in ls]} for i, ls in enumerate(langs)
    ]
    shards.write_shards(str(tmp_path), "train", [records.encode(r) for r in written], num_shards=2)
    records.write_manifest(str(tmp_path), languages=["de", "fr"])
    split = shards.read_manifest(str(tmp_path))["train"]  # shards: r0 r2 | r1 r3

    def entries(kind):
        found = shards.Entries(split, kind)
        return list(zip(*(a.tolist() for a in found.locate(np.arange(len(found)))), strict=True))

    assert entries("qa:en") == [(0, 0), (3, 0)]
    assert entries("qa:de") == [(0, 0), (2, 0), (2, 1)]
    assert entries("qa:de+fr") == [(0, 0), (2, 0), (2, 1), (2, 2), (3, 0)]
    assert entries("image:en") == [] if "image:en" in split.description["items"] else True
    with pytest.raises(ValueError, match=r"doesn't count 'qa:it'.*languages=\['it'\]"):
        shards.Entries(split, "qa:it")
