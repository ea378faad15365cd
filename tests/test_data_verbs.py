import io
import json
import tarfile

import numpy as np
import pytest

from paligax import cli, data_verbs
from paligax.data import ingest, records, shards
from tests.data.toy import jpeg

HERE = "--beam.runner=FnApiRunner"


@pytest.fixture
def tars(tmp_path):
    (tmp_path / "tars").mkdir()
    for number in range(2):
        with tarfile.open(tmp_path / "tars" / f"{number:05}.tar", "w") as tar:
            for i in range(4):
                image = jpeg(i) if i != 2 else b"<html>not found"
                for suffix, data in (("jpg", image), ("txt", f"picture {i}".encode()), ("json", b"{}")):
                    member = tarfile.TarInfo(f"{number:05}{i:04}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return str(tmp_path / "tars")


def build(*words):
    return cli.main(["data", "build", *words])


def test_foreign_data_become_a_data_set(tars, tmp_path, capsys):
    pytest.importorskip("apache_beam")
    directory = str(tmp_path / "data")
    words = [f"--path={tars}", f"--data_dir={directory}", "--lang=en", "--count_languages=de", HERE]
    assert build("--source=webdataset", *words) == 0
    printed = capsys.readouterr().out
    assert "Left out or changed: 2 × not an image" in printed and "6 records in 2 shards" in printed
    assert printed.splitlines()[-1] == directory
    split = shards.read_manifest(directory)["train"]
    found = [records.decode(r) for r in shards.Readers().read(split, np.arange(6))]
    assert [r["alt_text/text"] for r in found[:3]] == [["picture 0"], ["picture 1"], ["picture 3"]]
    assert len(shards.Entries(split, "alt_text:en")) == 6 and len(shards.Entries(split, "alt_text:de")) == 0
    page = (tmp_path / "data" / "ingest-train.html").read_text()
    assert "not an image (2)" in page and "WebDataset" in page
    assert json.loads((tmp_path / "data" / "ingest-train.json").read_text())["problems"] == {"not an image": 2}
    assert build("--source=webdataset", *words) == 0  # done already


def test_the_best_part_needs_scores(tars, tmp_path, capsys):
    pytest.importorskip("apache_beam")
    scored, best = str(tmp_path / "scored"), str(tmp_path / "best")
    good = [{"id": f"r{i}", "image": jpeg(i), "score": float(i)} for i in range(20)]
    shards.write_shards(scored, "train", [records.encode(r) for r in good], num_shards=2)
    records.write_manifest(scored)
    assert build("--source=records", f"--path={scored}", f"--data_dir={best}", "--keep_top=0.25", HERE) == 0
    assert "Removed: 15 × score below the top fraction" in capsys.readouterr().out
    split = shards.read_manifest(best)["train"]
    kept = {records.decode(r)["id"] for r in shards.Readers().read(split, np.arange(5))}
    assert kept == {f"r{i}" for i in range(15, 20)} and not list((tmp_path / "best").glob(".*"))
    assert build("--source=webdataset", f"--path={tars}", f"--data_dir={best}2", "--keep_top=0.1", HERE) == 1
    assert "has a score" in capsys.readouterr().err


def test_a_split_of_the_source_is_the_one_that_is_read(tmp_path):
    pytest.importorskip("apache_beam")
    both, copy = str(tmp_path / "both"), str(tmp_path / "copy")
    for split in ("train", "validation"):
        shards.write_shards(both, split, [records.encode({"id": split, "image": jpeg(1)})])
    records.write_manifest(both)
    assert build("--source=records", f"--path={both}", f"--data_dir={copy}", "--split=validation", HERE) == 0
    words = ["--split=other", "--from_split=train", HERE]
    assert build("--source=records", f"--path={both}", f"--data_dir={copy}", *words) == 0
    found = shards.read_manifest(copy)
    ids = {s: records.decode(shards.Readers().read(found[s], np.arange(1))[0])["id"] for s in found}
    assert ids == {"validation": "validation", "other": "train"}


def test_mistakes_are_told(tars, tmp_path, capsys):
    where = f"--data_dir={tmp_path}/data"
    for words, expected in [
        (["--source=webdatset", f"--path={tars}", where, HERE], "did you mean 'webdataset'"),
        (["--source=webdataset", f"--paths={tars}", where, HERE], "did you mean 'path'"),
        (["--source=webdataset", where, HERE], "needs --path"),
        (["--source=webdataset", "--path=/nowhere/*.tar", where, HERE], "Nothing matches '/nowhere/*.tar'"),
    ]:
        pytest.importorskip("apache_beam")
        assert build(*words) == 1
        assert expected in capsys.readouterr().err
    with pytest.raises(SystemExit):
        build(where)
    assert "either a data set (mini_webli) or --source=KIND" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        build("mini_webli", where, "--sizes=3")


def test_a_source_tells_its_options(capsys):
    with pytest.raises(SystemExit):
        build("--source=jsonl", "--help")
    printed = capsys.readouterr().out
    assert "--images=" in printed and "--path=…  (required)" in printed


def test_every_source_is_listed_and_there():
    assert data_verbs.SOURCES.keys() == ingest.READERS.keys()
    for kind in ingest.READERS:
        assert ingest.reader_class(kind).__doc__


def test_options_of_a_command_line_get_their_types():
    reader = ingest.make_reader("coco_captions", path="a.json", images="photos", unit_size="7")
    assert reader.unit_size == 7 and reader.source == "coco_captions"
    with pytest.raises(ValueError, match="--unit_size='many'"):
        ingest.make_reader("coco_captions", path="a.json", images="photos", unit_size="many")
