"""Kill -9 at any moment and start again: the final parameters are bit for bit those of the uninterrupted run."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from paligax.training import checkpoints, run_log

ROOT = pathlib.Path(__file__).parents[2]


def start(directory, cache, *words):
    """A training process of its own, on one device, its output in a file beside the run."""
    command = [sys.executable, "-m", "tests.training.toy", str(directory), f"--cache={cache}", *words]
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0", "PYTHONPATH": str(ROOT)}
    output = directory.with_suffix(".txt")
    # By way of a pipe, as a limit on files would hold for the output as well.
    tee = subprocess.Popen(["tee", "-a", str(output)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=tee.stdin, stderr=subprocess.STDOUT)


def finish(directory, cache, *words):
    process = start(directory, cache, *words)
    process.wait(timeout=300)
    return process.returncode, directory.with_suffix(".txt").read_text()


def equal(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: x.dtype == y.dtype and np.array_equal(x, y), a, b))


def check_same_end(run, reference):
    assert equal(checkpoints.restore_params(run)[0], checkpoints.restore_params(reference)[0])
    assert equal(optimizer(run), optimizer(reference))
    assert logged_weight(run) == logged_weight(reference), "every step is logged once"


def logged_weight(run):
    return sum(row["weight/caption"] for row in run_log.read(run) if "weight/caption" in row)


def optimizer(run):
    """The optimizer's state in the newest checkpoint, as numpy."""
    import orbax.checkpoint as ocp

    directory = checkpoints.find(run) / "optimizer"
    tree = ocp.PyTreeCheckpointHandler().metadata(directory).tree
    wanted = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), tree)
    return ocp.PyTreeCheckpointHandler().restore(directory, args=ocp.args.PyTreeRestore(tree, wanted))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Compiled programs, shared by all starts as by those of a real run."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def reference(tmp_path_factory, cache):
    """The uninterrupted run."""
    directory = tmp_path_factory.mktemp("reference") / "run"
    code, output = finish(directory, cache)
    assert code == 0, output
    return directory


@pytest.mark.slow
def test_killed_while_it_saves(tmp_path, cache, reference):
    check_killed_at(("arrays", "manifest"), tmp_path / "run", cache, reference)


@pytest.mark.slow
def test_killed_while_it_removes_an_old_checkpoint(tmp_path, cache, reference):
    check_killed_at(("arrays", "deleting", "manifest"), tmp_path / "run", cache, reference)


def check_killed_at(moments, run, cache, reference):
    for moment in moments:
        code, output = finish(run, cache, f"--die={moment}")
        assert code == -signal.SIGKILL, output
    code, output = finish(run, cache)
    assert code == 0 and "final step 9" in output, output
    assert output.count("Resuming") == len(moments) and "it has no manifest.json: writing it was interrupted" in output
    assert output.count("is gone: taken over") == len(moments), "the lock of the one that was killed"
    left = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert left == ["8", "9"], "nothing is left of what was killed"
    check_same_end(run, reference)


@pytest.mark.slow
def test_killed_while_it_logs(tmp_path, cache, reference):
    run = tmp_path / "run"
    assert finish(run, cache, "--die=log")[0] == -signal.SIGKILL
    code, output = finish(run, cache)
    assert code == 0, output
    check_same_end(run, reference)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments(tmp_path, cache, reference, seed):
    run = tmp_path / "run"
    chance = random.Random(seed)
    kills = 0
    for _ in range(8):
        process = start(run, cache, "--pause=0.15")
        began = time.monotonic()
        pause = chance.uniform(0.0, 1.0)  # after the start is through, or while it is not
        lines = len(run_log.read(run))
        while process.poll() is None and len(run_log.read(run)) == lines and time.monotonic() - began < 60:
            if chance.random() < 0.002:  # seldom: before the first step
                break
            time.sleep(0.02)
        deadline = time.monotonic() + pause
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if process.poll() is None:
            process.kill()
            kills += 1
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL, run.with_suffix(".txt").read_text()
    code, output = finish(run, cache)
    assert code == 0 and kills, output
    check_same_end(run, reference)


@pytest.mark.slow
def test_a_full_disk_stops_with_a_clear_error_and_loses_nothing(tmp_path, cache, reference):
    run = tmp_path / "run"
    code, output = finish(run, cache, "--steps=4")
    assert code == 0, output
    code, output = finish(run, cache, "--file_limit=15000")
    assert code == 1 and "The checkpoint of step 6 could not be written" in output, output
    assert "Checkpoint 4 and older ones are untouched" in output and "goes on from step 4" in output
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["2", "4"]
    assert finish(run, cache)[0] == 0
    check_same_end(run, reference)


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_its_own_code(tmp_path, cache, reference):
    run = tmp_path / "run"
    process = start(run, cache, "--pause=0.3")
    while len(run_log.read(run)) < 2 and process.poll() is None:
        time.sleep(0.02)
    process.terminate()
    assert process.wait(timeout=60) == 75
    code, output = finish(run, cache)
    assert code == 0 and "is saved. The same command goes on from there" in output
    check_same_end(run, reference)


@pytest.mark.slow
def test_a_second_job_on_the_run_directory_refuses(tmp_path, cache):
    run = tmp_path / "run"
    process = start(run, cache, "--pause=30")
    while not (run / "lock.json").exists() and process.poll() is None:
        time.sleep(0.05)
    second = subprocess.run(
        [sys.executable, "-m", "tests.training.toy", str(run)],
        cwd=ROOT,
        env=os.environ | {"XLA_FLAGS": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    process.kill()
    process.wait()
    assert second.returncode == 1 and f"Process {process.pid} on" in second.stderr and "is training" in second.stderr
