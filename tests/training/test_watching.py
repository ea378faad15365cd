import json
import os
import subprocess
import sys
import time

import pytest

from paligax.training import watching
from paligax.training.recorder import Stopwatch
from paligax.training.stopping import EXIT_CODE, Preempted


def status(directory):
    return json.loads((directory / "status.json").read_text())


def test_the_status_follows_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "EVERY_SECONDS", 0.02)
    stopwatch = Stopwatch()
    with watching.Watch(tmp_path, stopwatch, True, 600) as watch:
        assert status(tmp_path)["state"] == "starting" and status(tmp_path)["pid"] == os.getpid()
        watch.began(40, processes=2)
        with stopwatch.measure("evaluate"):
            watch.note(step=41, loss=float("nan"))
            first = status(tmp_path)["time"]
            deadline = time.monotonic() + 10
            while status(tmp_path)["phase"] != "evaluate" and time.monotonic() < deadline:
                time.sleep(0.01)
            found = status(tmp_path)
            assert found["time"] > first and found["state"] == "training" and found["phase_seconds"] < 10
            assert (found["start"], found["step"], found["loss"], found["processes"]) == (40, 41, None, 2)
    found = status(tmp_path)
    assert (found["state"], found["exit_code"], found["last_error"]) == ("done", 0, None)


def test_every_start_and_end_is_in_the_log(tmp_path):
    def start(step, error=None):
        with watching.Watch(tmp_path, Stopwatch(), True, 600) as watch:
            watch.began(step)
            if error:
                raise error

    with pytest.raises(Preempted):
        start(0, Preempted(5))
    with pytest.raises(RuntimeError):
        start(5, RuntimeError("no\nroom"))
    with (tmp_path / "starts.jsonl").open("a") as file:
        file.write('{"event": "start", "time": 1.0, "step": 6}\n{"event": "en')  # killed, and cut short
        file.write("\n")
    start(7)
    found = watching.starts(tmp_path)
    assert [one.step for one in found] == [0, 5, 6, 7]
    assert [one.exit_code for one in found] == [EXIT_CODE, 1, None, 0]
    assert found[0].reason == "stopped and saved at step 5" and found[1].reason == "no room"
    assert found[2].ended is None and found[3].ended >= found[3].time


def test_other_processes_write_nothing(tmp_path):
    with watching.Watch(tmp_path, Stopwatch(), False, 600) as watch:
        watch.began(0)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_does_not_end_the_run_here(tmp_path):
    (tmp_path / "status.json.partial").symlink_to("/dev/full")
    with watching.Watch(tmp_path, Stopwatch(), True, 600):
        pass


@pytest.mark.parametrize("phase, said", [("wait_for_input", "no batch comes"), ("compile", "compile")])
def test_a_stall_ends_the_process(phase, said, tmp_path):
    script = f"""
import pathlib, time
from paligax.training.recorder import Stopwatch
from paligax.training.watching import Watch
stopwatch = Stopwatch()
with Watch(pathlib.Path({str(tmp_path)!r}), stopwatch, True, 0.2) as watch, stopwatch.measure({phase!r}):
    watch.began(3)
    time.sleep(60)
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 79 and time.monotonic() - began < 30
    assert "Nothing has moved" in done.stderr and said in done.stderr and "step 3" in done.stderr
    assert (
        "time.sleep" in (tmp_path / "stacks-0.txt").read_text() or "<string>" in (tmp_path / "stacks-0.txt").read_text()
    )
    assert status(tmp_path)["exit_code"] == 79 and watching.starts(tmp_path)[0].exit_code == 79


def test_patience_may_not_be_negative(tmp_path):
    with pytest.raises(ValueError, match="at least 0"):
        watching.Watch(tmp_path, Stopwatch(), True, -1)
