import io
import json
import re
import tarfile

import numpy as np
import pytest

from paligax import cli, data_verbs
from paligax.data import ingest, records, shards
from tests import tiny_run
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


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--source=webdatset"], "did you mean 'webdataset'"),
        (["--source=webdataset", "--paths=x"], "did you mean 'path'"),
        (["--source=webdataset"], "needs --path"),
        (["--source=jsonl", "--path=x", "--unit_size=0"], "unit_size=0: expected a whole number from 1 to 1,000,000"),
        (["--source=jsonl", "--path=x", "--unit_size=-3"], "unit_size=-3"),
        (["--source=jsonl", "--path=x", "--unit_size=10000000000000"], "unit_size=10000000000000"),
        (["--source=jsonl", "--path=x", "--unit_size=many"], "--unit_size='many'"),
        (["--source=jsonl", "--path=x", "--fields=a=qa/questoin"], "did you mean 'qa/question'"),
        (["--source=text", "--path=x", "--documents=lines"], "did you mean 'line'"),
        (["--source=cc3m", "--path=x", "--images=y", "--names=md6"], "did you mean 'md5'"),
        (["--source=open_images", "--images=x", "--classes=y", "--least_confidence=7"], "least_confidence=7.0"),
        (["--source=jsonl", "--path=x", "--keep_top=2"], "--keep_top=2.0: expected a share"),
        (["--source=jsonl", "--path=x", "--radius=3"], "--near_duplicates_of are; it is not given"),
        (["--source=jsonl", "--path=x", "--count_languages=german!"], "'german!' is no language code"),
        (["--source=jsonl", "--path=x", "--split=a/b"], "--split=a/b: use letters"),
        (["--source=jsonl", "--path=x", "--from_split=a"], "source 'jsonl' has no splits"),
        (["--source=jsonl", "--path=x", "--beam.runner=FlinkRuner"], "did you mean 'FlinkRunner'"),
        (["--source=jsonl", "--path=x", "--beam.direct_num_workers=0"], "direct_num_workers=0: expected"),
        (["--source=jsonl", "--path=x", "--beam.direct_num_worker=2"], "did you mean --beam.direct_num_workers"),
        (["--source=jsonl", "mine.jsonl"], "Options of a source are written --name=value"),
        (["mini_weblu"], "Nearest: 'mini_webli'"),
        (["mini_webli", "--sizes=3"], "'--sizes=3' is not known"),
        (["mini_webli", "--size=0"], "--size=0: expected a whole number from 1"),
        (["mini_webli", "--keep_top=0.1"], "--keep_top is of foreign data"),
        (["--source=jsonl", "--path=x", "--size=5"], "--size is of mini_webli, not of foreign data"),
        (["mini_webli", "--seed=-1"], "--seed=-1: expected a whole number from 0"),
        ([], "either a data set (mini_webli) or --source=KIND"),
    ],
)
def test_mistakes_in_words_are_told_at_once(words, expected, tmp_path, capsys):
    pytest.importorskip("apache_beam")
    assert code_of(*words, f"--data_dir={tmp_path}/data") == 2
    said = capsys.readouterr().err
    assert expected in said and "Traceback" not in said
    assert not (tmp_path / "data").exists()


def test_a_source_that_is_not_there_is_told(tmp_path, capsys):
    pytest.importorskip("apache_beam")
    assert build("--source=webdataset", "--path=/nowhere/*.tar", f"--data_dir={tmp_path}/data", HERE) == 1
    assert "Nothing matches '/nowhere/*.tar'" in capsys.readouterr().err
    assert code_of("--source=webdataset", "--path=x") == 2
    assert "give --data_dir=DIR" in capsys.readouterr().err


def code_of(*words):
    """The exit code, returned or raised."""
    try:
        return build(*words)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("words", ["--source=jsonl --help", "--help --source=jsonl", "-h --source jsonl"])
def test_a_source_tells_its_options(words, capsys):
    assert code_of(*words.split()) == 0
    printed = capsys.readouterr().out
    assert "--images=" in printed and "--path=…  (required)" in printed


def test_help_of_everything_and_of_nothing(capsys):
    assert code_of("--help") == 0
    assert "open_images " in capsys.readouterr().out
    assert code_of("--source=jsnl", "--help") == 2
    assert "did you mean 'jsonl'" in capsys.readouterr().err
    assert code_of("--source=text", "--help") == 0
    assert "--documents='line'  (line | file | json)" in capsys.readouterr().out


def test_every_source_is_listed_and_there():
    assert data_verbs.SOURCES.keys() == ingest.READERS.keys()
    for kind in ingest.READERS:
        assert ingest.reader_class(kind).__doc__


def test_options_of_a_command_line_get_their_types():
    reader = ingest.make_reader("coco_captions", path="a.json", images="photos", unit_size="7")
    assert reader.unit_size == 7 and reader.source == "coco_captions"
    with pytest.raises(ValueError, match="--unit_size='many'"):
        ingest.make_reader("coco_captions", path="a.json", images="photos", unit_size="many")


def test_statistics_of_a_mixture(tmp_path, capsys):
    """`paligax data stats` counts what tasks make of ingested text, and writes what it prints."""
    pytest.importorskip("apache_beam")
    (tmp_path / "a.txt").write_text("one two three four five six seven eight nine ten\n" * 20)
    directory = str(tmp_path / "data")
    assert build("--source=text", f"--path={tmp_path}/a.txt", "--lang=en", f"--data_dir={directory}", HERE) == 0
    lengths = "TASK_FEATURE_LENGTHS = {'image': 16, 'inputs': 24, 'targets': 24}"
    tiny = tiny_run.GIN.replace("'vqa'", "'span_corruption'").replace("DATA_DIR = 'data'", f"DATA_DIR = {directory!r}")
    tiny = re.sub("TASK_FEATURE_LENGTHS = .*", lengths, tiny)
    (tmp_path / "tiny.gin").write_text(tiny)
    capsys.readouterr()
    words = [f"--gin_file={tmp_path}/tiny.gin", "--num=5", f"--json={tmp_path}/stats.json"]
    assert cli.main(["data", "stats", *words]) == 0
    found = json.loads((tmp_path / "stats.json").read_text())
    task = found["tasks"]["span_corruption"]
    assert task["entries"] == 20 and task["examples"] == 5 and task["languages"] == {"en": 5}
    assert task["inputs"]["limit"] == 24 and 0 < task["inputs"]["mean"]
    printed = capsys.readouterr().out
    assert "span_corruption" in printed
