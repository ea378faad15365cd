import dataclasses
import os
import pathlib
import signal
import time

import pytest

pytest.importorskip("apache_beam")

import apache_beam as beam
import psutil

from paligax.data import shards
from paligax.data.ingest import pipeline, running
from paligax.data.ingest.beam_options import options
from paligax.data.ingest.reader import Reader

TWO = ["--direct_num_workers=2"]


@dataclasses.dataclass(frozen=True)
class Deadly(Reader):
    """Six units, of which the fourth kills the process that reads it, as the system does where memory runs out."""

    folder: str

    def units(self):
        yield from range(6)

    def read(self, unit):
        if unit == 3 and not (killed := pathlib.Path(self.folder, "killed")).exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield {"id": str(unit), "text": f"text {unit}"}


def workers():
    return [p for p in psutil.Process().children(recursive=True) if running._WORKER in " ".join(p.cmdline())]


@pytest.mark.slow
def test_a_killed_worker_ends_the_build_which_then_goes_on(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(pipeline, "_state", lambda reader: {})  # the mark of the kill lies in its folder
    directory = str(tmp_path / "data")
    with pytest.raises(running.WorkerDiedError, match="signal 9.* of 6 shards are missing: .* Run the same command"):
        pipeline.build(Deadly(str(tmp_path)), directory, "train", beam_arguments=TWO)
    assert time.time() - (tmp_path / "killed").stat().st_mtime < running.POLL + running.GRACE + 5
    assert not workers() and not (tmp_path / "data" / "manifest.json").exists()
    left = {path.name for path in (tmp_path / "data" / ".ingest" / "train").glob("0000?.json")}
    assert "00003.json" not in left
    said = capfd.readouterr().err
    assert "Traceback" not in said and "INFO" not in said
    summary = pipeline.build(Deadly(str(tmp_path)), directory, "train", beam_arguments=["--direct_num_workers=1"])
    assert summary["records"] == summary["read"] == 6
    assert int(shards.read_manifest(directory)["train"].ends[-1]) == 6


@pytest.mark.slow
def test_a_worker_that_ends_without_an_error_is_missed_too(monkeypatch):
    monkeypatch.setattr(running, "GRACE", 3.0)
    made = running.pipeline(options(TWO))
    _ = made | beam.Create([0]) | beam.Reshuffle() | beam.Map(lambda _: os._exit(0))
    with pytest.raises(running.WorkerDiedError, match="ended before its time"):
        running.run(made)
    assert not workers()


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("Worker subprocess exited with return code -9", "killed .signal 9."),
        ("Worker subprocess exited with return code 137", "killed .signal 9."),  # what a shell makes of it
        ("Worker subprocess exited with return code 1", "exit code 1"),
        ("", "exit code 0"),
    ],
)
def test_what_return_codes_mean(said, means):
    with pytest.raises(RuntimeError, match=means):
        raise RuntimeError(running._described(said))


def test_what_a_worker_raised_is_told_without_beams_traceback():
    made = running.pipeline(options(["--runner=FnApiRunner"]))

    def fails(_):
        raise FileNotFoundError("No weights 'siglip/'.\nSay where they are.")

    _ = made | beam.Create([0]) | beam.Map(fails)
    with pytest.raises(running.PipelineError) as caught:
        running.run(made)
    told = str(caught.value)
    assert told.startswith("FileNotFoundError: No weights 'siglip/'.\nSay where they are.\n(") and "while" not in told
