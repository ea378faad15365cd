"""Storage that fails a run: each case is survived, or stopped with one line that says what to do."""

import os
import pathlib
import shutil

import pytest

from paligax import cli
from paligax.training import checkpoints, run_log
from tests.tiny_run import GIN, write_records


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A directory with a data set and tiny.gin."""
    here, before = tmp_path_factory.mktemp("data"), pathlib.Path.cwd()
    os.chdir(here)
    try:
        write_records()
        pathlib.Path("tiny.gin").write_text(GIN.replace("compile_cache = ''", "compile_cache = 'cache'"))
    finally:
        os.chdir(before)
    return here


@pytest.fixture(scope="module")
def trained(data):
    """The same with a run of two steps, which has a checkpoint of each."""
    before = pathlib.Path.cwd()
    os.chdir(data)
    try:
        assert train("run") == 0
    finally:
        os.chdir(before)
    return data


@pytest.fixture
def untrained(data, tmp_path, monkeypatch):
    """A copy of the data, as the working directory."""
    shutil.copytree(data, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A copy of data and run, as the working directory."""
    shutil.copytree(trained, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def train(model_dir, *words):
    return cli.main(
        ["train", "--gin_file=tiny.gin", "--gin.Trainer.checkpoint_every=1", f"--model_dir={model_dir}", *words]
    )


def flip(directory):
    """One bit in the middle of the largest file of a checkpoint's parameters."""
    path = max((p for p in (directory / "params").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.slow
def test_a_flipped_bit_in_the_newest_checkpoint_costs_its_steps_and_no_more(here, capsys):
    flip(here / "run" / "checkpoints" / "2")
    assert train("run") == 0
    said = capsys.readouterr().out
    assert "checkpoints/2 is passed over" in said and "has changed since it was written (checksum)" in said
    assert "Resuming" in said and "from step 1" in said
    assert checkpoints.find(here / "run").name == "2" and (here / "run" / "checkpoints" / "2.damaged").is_dir()
    assert [row["step"] for row in run_log.read(here / "run") if "loss" in row][-1] == 2


@pytest.mark.slow
def test_flipped_bits_everywhere_stop_the_run_instead_of_starting_over(here, capsys):
    for step in "12":
        flip(here / "run" / "checkpoints" / step)
    assert train("run") == 1
    error = capsys.readouterr().err.strip()
    assert "No checkpoint in" in error and "is whole" in error and len(error.splitlines()) == 1
    assert sorted(p.name for p in (here / "run" / "checkpoints").iterdir()) == ["1", "2"], "nothing is removed"


@pytest.mark.slow
def test_a_half_written_checkpoint_is_passed_over(here, capsys):
    newest = here / "run" / "checkpoints" / "2"
    (newest / "manifest.json").unlink()
    shutil.rmtree(newest / "optimizer")
    assert train("run") == 0
    assert "writing it was interrupted" in capsys.readouterr().out and checkpoints.find(here / "run").name == "2"


def test_a_lost_shard_is_named(untrained, capsys):
    shard = next(pathlib.Path("data").glob("*train.array_record*"))
    shard.unlink()
    assert train("other") == 1
    error = capsys.readouterr().err.strip()
    assert shard.name in error and len(error.splitlines()) == 1


def test_a_directory_that_cannot_be_written_is_refused(untrained, capsys):
    pathlib.Path("file").write_text("")
    assert train("file/run") == 1
    error = capsys.readouterr().err.strip()
    assert "can't be written: Not a directory" in error and len(error.splitlines()) == 1


@pytest.mark.slow
def test_a_log_on_a_full_disk_stops_the_run_and_keeps_what_is_saved(here, capsys):
    (here / "run" / "metrics.jsonl").unlink()
    (here / "run" / "metrics.jsonl").symlink_to("/dev/full")
    assert train("run", "--gin.TRAIN_STEPS=4", "--gin.Trainer.log_every=1", "--accept_config_change") == 1
    error = capsys.readouterr().err.strip()
    assert "metrics.jsonl can't be written at step 3: No space left on device" in error
    assert checkpoints.find(here / "run").name in "23"
