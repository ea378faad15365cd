import dataclasses
import json
import os
import pathlib

import pytest

pytest.importorskip("apache_beam")

from paligax.data import records, shards
from paligax.data.ingest import keep, pipeline, shard_writer
from paligax.data.ingest.reader import Problem, Reader
from paligax.data.ingest.stage import Stage
from tests.data.toy import jpeg

HERE = ["--runner=FnApiRunner"]  # in this process


@dataclasses.dataclass(frozen=True)
class Numbers(Reader):
    """Four units of five records; every record's score is its number."""

    path: str
    units_read: pathlib.Path | None = None

    def units(self):
        for unit in range(4):
            yield {"unit": unit}

    def read(self, unit):
        if self.units_read:
            pathlib.Path(self.units_read, f"{unit['unit']}-{os.urandom(4).hex()}").touch()
        for i in range(5):
            number = 5 * unit["unit"] + i
            if number == 7:
                yield Problem("image missing", f"{self.path}: 7")
                continue
            captions = [{"lang": ["en", "de"][number % 2], "text": f"picture {number}"}]
            yield {"id": f"n{number}", "image": jpeg(number), "alt_text": captions, "score": number}


@dataclasses.dataclass
class Odd(Stage):
    batch_size: int = 3

    def setup(self):
        self.ready = True

    def apply(self, batch):
        assert self.ready and len(batch) <= 3
        for record in batch:
            record["source"] = "seen"
        return ["odd" if int(record["id"][1:]) % 2 else "" for record in batch]


def everything(directory, split="train"):
    found = shards.read_manifest(directory)[split]
    return [records.decode(r) for r in shards.Readers().read(found, range_of(found))]


def range_of(split):
    import numpy as np

    return np.arange(int(split.ends[-1]))


def test_units_become_shards_with_a_manifest_and_a_summary(tmp_path):
    directory = str(tmp_path / "data")
    summary = pipeline.build(Numbers("here"), directory, "train", [Odd()], HERE)
    found = everything(directory)
    assert [r["id"] for r in found] == [f"n{i}" for i in range(0, 20, 2)] and {r["source"] for r in found} == {"seen"}
    assert summary["records"] == 10 and summary["shards"] == 4
    assert summary["removed"] == {"odd": 9} and summary["problems"] == {"image missing": 1}
    assert summary["languages"] == {"alt_text en": 10} and summary["items"]["alt_text:en"] == 10
    assert [s["name"] for s in summary["samples"]["image missing"]] == ["here: 7"]
    assert len(summary["samples"]["odd"]) == 9 and all("picture" in s for s in summary["samples"]["odd"])
    split = shards.read_manifest(directory)["train"]
    assert [s["records"] for s in split.description["shards"]] == [3, 2, 3, 2]
    assert split.description["uniform"]["alt_text"] == 1 and len(shards.Entries(split, "alt_text")) == 10
    assert not (tmp_path / "data" / ".ingest" / "train").exists()


def test_the_same_build_again_is_done_and_another_is_refused(tmp_path):
    directory = str(tmp_path / "data")
    first = pipeline.build(Numbers("here"), directory, "train", [], HERE)
    again = pipeline.build(Numbers("here"), directory, "train", [], HERE)
    assert again == first | {"built_before": True} and not first["built_before"]
    with pytest.raises(ValueError, match="already has a split 'train'"):
        pipeline.build(Numbers("elsewhere"), directory, "train", [], HERE)
    pipeline.build(Numbers("elsewhere"), directory, "validation", [], HERE)
    assert set(shards.read_manifest(directory)) == {"train", "validation"}


def test_a_stopped_build_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    directory, read = str(tmp_path / "data"), tmp_path / "read"
    read.mkdir()
    reader = Numbers("here", read)
    write = shard_writer.write_shard

    def stop_at_two(plan, index, unit):
        if index == 2:
            raise KeyboardInterrupt("killed")
        return write(plan, index, unit)

    monkeypatch.setattr(shard_writer, "write_shard", stop_at_two)
    with pytest.raises(BaseException, match="killed"):
        pipeline.build(reader, directory, "train", [], HERE)
    assert not (tmp_path / "data" / "manifest.json").exists()
    done = {json.loads(f.read_text())["path"] for f in (tmp_path / "data" / ".ingest" / "train").glob("0000?.json")}
    monkeypatch.setattr(shard_writer, "write_shard", write)
    with pytest.raises(ValueError, match="Another build of split 'train' was begun"):
        pipeline.build(Numbers("elsewhere"), directory, "train", [], HERE)
    read_before = sorted(f.name.split("-")[0] for f in read.iterdir())
    pipeline.build(reader, directory, "train", [], HERE)
    read_then = sorted(f.name.split("-")[0] for f in read.iterdir())
    assert len(read_then) - len(read_before) == 4 - len(done)
    assert [r["id"] for r in everything(directory)] == [f"n{i}" for i in range(20) if i != 7]
    assert not list((tmp_path / "data").glob("**/*.part"))


def test_the_best_part_is_exact(tmp_path):
    thresholds = pipeline.top_fraction(Numbers("here"), 0.25, "", str(tmp_path), HERE)
    stage = keep.KeepAbove(thresholds)
    pipeline.build(Numbers("here"), str(tmp_path), "train", [stage], HERE)
    assert [r["id"] for r in everything(str(tmp_path))] == [f"n{i}" for i in range(15, 20)]  # ceil(19 / 4)
    of_languages = pipeline.top_fraction(Numbers("here"), 0.1, "language", str(tmp_path), HERE)
    assert {key: score for key, (score, _) in of_languages.items()} == {"en": 18.0, "de": 19.0}


def test_an_empty_source_is_told(tmp_path):
    class Nothing(Numbers):
        def units(self):
            return iter(())

    with pytest.raises(ValueError, match="has nothing to read"):
        pipeline.build(Nothing("here"), str(tmp_path), "train", [], HERE)


def test_nothing_usable_is_an_error_and_leaves_nothing(tmp_path):
    class Broken(Numbers):
        def read(self, unit):
            yield {"id": "\ud800", "image": b"no image"}
            yield Problem("image missing", "\ud800.jpg")

    for _ in range(2):
        with pytest.raises(ValueError, match="No record came in for 'train': 4 × .*, 4 × "):
            pipeline.build(Broken("here"), str(tmp_path / "data"), "train", [], HERE)
    assert not list((tmp_path / "data").glob("*.json"))


def test_a_source_that_changed_is_not_the_same_build(tmp_path):
    source, directory = tmp_path / "source.txt", str(tmp_path / "data")
    source.write_text("one")
    pipeline.build(Numbers(str(source)), directory, "train", [], HERE)
    source.write_text("another")
    with pytest.raises(ValueError, match="already has a split 'train'"):
        pipeline.build(Numbers(str(source)), directory, "train", [], HERE)
