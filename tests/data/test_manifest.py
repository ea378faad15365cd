import json
import os

import pytest

from paligax.data import manifest, shards


def test_a_split_is_added_and_the_others_stay(tmp_path):
    manifest.add(str(tmp_path), "train", {"shards": []})
    manifest.add(str(tmp_path), "test", {"shards": [1]})
    manifest.add(str(tmp_path), "train", {"shards": [2]})
    assert manifest.read(str(tmp_path)) == {"train": {"shards": [2]}, "test": {"shards": [1]}}
    assert json.loads((tmp_path / "manifest.json").read_text())["schema"] == manifest.SCHEMA_VERSION
    assert [f.name for f in tmp_path.iterdir()] == ["manifest.json"]


def described(kinds, names):
    counted = [{kind: i + j for j, kind in enumerate(kinds)} for i, _ in names]
    listed = [
        {"path": name, "records": 2, "bytes": 9, "items": each} for (_, name), each in zip(names, counted, strict=True)
    ]
    items = {kind: sum(each[kind] for each in counted) for kind in kinds}
    return {"shards": listed, "items": items, "uniform": {"record": 1}, "languages": {"alt_text en": 3}, "build": "x"}


def test_shards_are_read_in_columns(tmp_path):
    kinds = ["record", "qa", "qa:de"]
    manifest.add(str(tmp_path), "train", described(kinds, [(0, "a"), (1, "b"), (2, "c")]))
    manifest.add(str(tmp_path), "empty", {"shards": [], "items": {}, "uniform": {}})
    found = manifest.read_shards(str(tmp_path))
    assert found["train"].names == ("a", "b", "c") and found["train"].uniform == {"record": 1}
    assert found["train"].records.tolist() == [2, 2, 2] and found["train"].bytes.sum() == 27
    assert found["train"].items_of("qa:de").tolist() == [2, 3, 4] and list(found["train"].kinds) == kinds
    assert found["empty"].items.shape == (0, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": 1, "splits": {"train": {"shards"', "is no JSON.*Write it anew"),
        ("[]", "has schema None; expected 1"),
        ('{"schema": 2, "splits": {}}', "has schema 2; expected 1"),
        ('{"schema": 1, "splits": {"train": {"shards": [{"path": "a"}], "items": {}}}}', "it should: KeyError 'items'"),
        ('{"schema": 1, "splits": {"train": [1]}}', "as it should: TypeError"),
    ],
)
def test_damaged_manifests_are_told(tmp_path, text, message):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        shards.read_manifest(str(tmp_path))


def test_a_manifest_is_read_once_until_it_is_written_again(tmp_path, monkeypatch):
    read, real = [], manifest.read_shards
    monkeypatch.setattr(manifest, "read_shards", lambda directory: read.append(directory) or real(directory))
    path = str(tmp_path)
    manifest.add(path, "train", described(["record"], [(0, "a")]))
    first = shards.read_manifest(path)["train"]
    assert shards.read_manifest(path)["train"] is first and len(read) == 1
    manifest.add(path, "train", described(["record"], [(0, "b")]))  # the same length
    assert shards.read_manifest(path)["train"].paths == [os.path.join(path, "b")] and len(read) == 2
    with pytest.raises(ValueError, match="written again since split 'train' was opened"):
        _ = first.digest


def test_what_is_added_while_shards_are_counted_stays(tmp_path):
    manifest.write(str(tmp_path), {"old": {"shards": []}, "train": {"shards": [1]}})
    before = manifest.read(str(tmp_path))
    manifest.add(str(tmp_path), "validation", {"shards": [3]})
    manifest.replace(str(tmp_path), {"train": {"shards": [2]}}, before)
    assert manifest.read(str(tmp_path)) == {"train": {"shards": [2]}, "validation": {"shards": [3]}}
