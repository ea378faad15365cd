"""What the launchers share: which ends are worth another start."""

import pathlib
import re
import sys

import pytest

from paligax.training import stopping

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"


@pytest.fixture
def job(monkeypatch):
    monkeypatch.syspath_prepend(str(LAUNCH))
    import job

    yield job
    del sys.modules["job"]


def test_exit_codes_are_those_of_training(job):
    ours = (stopping.EXIT_CODE, stopping.LOST_EXIT_CODE, stopping.STALLED_EXIT_CODE)
    assert job.RESTARTABLE == ours == (75, 76, 79)


@pytest.mark.parametrize("code, again", [(0, False), (1, False), (2, False), (75, True), (76, True), (79, True)])
def test_restartable(job, code, again):
    assert job.is_restartable(code) is again
    assert job.is_restartable(-9) and job.is_restartable(137)


def test_several_slices_are_told_to_training(job):
    assert job.words(["train", "--x=1"], 2) == ["train", "--x=1", "--gin.Partitioner.slices=2"]
    assert job.words(["train", "--gin.Partitioner.slices=4"], 2) == ["train", "--gin.Partitioner.slices=4"]
    assert job.words(["eval"], 2) == ["eval"] and job.words(["train"]) == ["train"]


def test_the_image_is_made_of_what_is_there():
    text = (LAUNCH.parent / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.+) \S+$", text, re.M) for name in line.split()]
    assert "requirements-3.12.lock" in copied and {"paligax", "tasks", "gin_configs"} <= set(copied)
    assert all((LAUNCH.parent / name).exists() for name in copied)
    assert re.search(r"^FROM python:3\.12", text, re.M) and "--require-hashes" in text
