import json
import os
import socket
import subprocess
import sys
import time

import pytest

from paligax import cli
from paligax.training import status


@pytest.fixture
def run(tmp_path):
    """run(**values) writes a status.json of a run that is in its 300th of 400 steps; other files as they would be."""
    began = time.time() - 400

    def write(**values):
        now = {"state": "training", "phase": "step", "host": socket.gethostname(), "pid": os.getpid()}
        now |= {"time": time.time(), "start": 100, "step": 300, "train_steps": 400, "loss": 1.5}
        (tmp_path / "status.json").write_text(json.dumps(now | values))
        return tmp_path

    rows = [{"step": s, "loss": 2.0, "seconds_per_step": 0.5, "examples_per_second": 64.0} for s in (100, 200, 300)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    starts = [{"event": "start", "time": began, "step": 0}, {"event": "start", "time": began + 250, "step": 100}]
    (tmp_path / "starts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in starts))
    for step in (100, 200, 300):
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
        if step < 300:  # the newest one is being written
            (tmp_path / "checkpoints" / str(step) / "manifest.json").write_text("{}")
    return write


def test_a_run_that_moves(run):
    found = status.read(run())
    assert (found.state, found.exit_code, found.step, found.starts) == ("training", 0, 300, 2)
    assert (found.seconds_per_step, found.examples_per_second, found.mfu) == (0.5, 64.0, None)
    assert found.seconds_left == pytest.approx(50.0)
    assert found.goodput == pytest.approx(150 / 400, rel=0.02), "300 steps of half a second in 400 s"
    assert found.last_checkpoint == 200 and found.last_checkpoint_age < 60
    assert "was killed" in found.last_error and "step 0" in found.last_error
    text = status.text("runs/x", found)
    assert text.splitlines()[0] == "runs/x: training, step 300 of 400 (75%), 50s left"
    assert "64.0 examples/s, 0.5 s a step" in text and "step 200" in text and "37.5%" in text


def dead_pid():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.mark.parametrize(
    "values, state, code",
    [
        ({"state": "done", "exit_code": 0}, "done", 0),
        ({"state": "stopped", "exit_code": 75}, "stopped", 4),
        ({"state": "failed", "exit_code": 1, "last_error": "no room"}, "failed", 4),
        ({"age": 500, "host": "elsewhere"}, "silent", 3),
        ({"age": 60, "host": "elsewhere"}, "training", 0),
    ],
)
def test_states(run, values, state, code):
    values = dict(values)
    if "age" in values:
        values["time"] = time.time() - values.pop("age")
    found = status.read(run(**values))
    assert (found.state, found.exit_code) == (state, code)


def test_a_process_of_this_machine_that_is_gone_was_killed(run):
    found = status.read(run(pid=dead_pid()))
    assert (found.state, found.exit_code) == ("killed", 4) and "step 100" in found.last_error


def test_the_verb(run, capsys, tmp_path):
    directory = run(time=time.time() - 500, host="elsewhere")
    assert cli.main(["status", str(directory)]) == 3
    assert "silent, step 300 of 400" in capsys.readouterr().out
    assert cli.main(["status", str(directory), "--silent_seconds=1000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["last_checkpoint"] == 200
    assert cli.main(["status", str(tmp_path / "nothing")]) == 1
    assert "No status.json" in capsys.readouterr().err
