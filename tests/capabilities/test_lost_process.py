"""A process that dies, fails or stalls ends the others of its job in seconds, with a line that says why."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from paligax.training import run_log, status, watching
from paligax.training.stopping import LOST_EXIT_CODE, STALLED_EXIT_CODE
from tests.capabilities.test_kill_and_resume import check_same_end

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 45  # in which the others must have ended; jax's own patience is 10 s here


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def start(run, cache, *words, processes=2):
    """The processes of a toy run, one device each; the output of process i in RUN.i.txt."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "tests.training.toy", str(run), f"--cache={cache}", *words]
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0", "PYTHONPATH": str(ROOT)}
    return [
        subprocess.Popen(
            [*command, "--join", address, str(processes), str(i)] if processes > 1 else command,
            cwd=ROOT,
            env=environment,
            stdout=output(run, i).open("a"),
            stderr=subprocess.STDOUT,
        )
        for i in range(processes)
    ]


def output(run, i):
    return run.with_name(f"{run.name}.{i}.txt")


def wait_for_steps(run, processes, number):
    deadline = time.monotonic() + 200
    while len(run_log.read(run)) < number:
        assert all(process.poll() is None for process in processes), output(run, 0).read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finish(run, cache, *words, processes=2):
    codes = [process.wait(timeout=300) for process in start(run, cache, *words, processes=processes)]
    assert codes == [0] * processes, output(run, 0).read_text()[-3000:] + output(run, processes - 1).read_text()[-3000:]


@pytest.fixture(scope="module")
def reference(tmp_path_factory, cache):
    """The uninterrupted run of two processes."""
    run = tmp_path_factory.mktemp("reference") / "run"
    finish(run, cache, "--steps=12")
    return run


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_killed_minus_nine_the_other_ends_and_the_next_start_continues_bit_for_bit(victim, tmp_path, cache, reference):
    run = tmp_path / "run"
    processes = start(run, cache, "--steps=12", "--pause=0.3")
    wait_for_steps(run, processes, 2)
    processes[victim].kill()
    began = time.monotonic()
    code = processes[1 - victim].wait(timeout=SECONDS)
    print("ended after", time.monotonic() - began)
    said = output(run, 1 - victim).read_text()
    assert code == LOST_EXIT_CODE, said
    assert "Lost another process of this job" in said and "the same command goes on" in said
    assert processes[victim].wait() == -signal.SIGKILL
    found = status.read(run)
    assert found.exit_code == 4 and found.state == ("killed" if victim == 0 else "failed")
    finish(run, cache, "--steps=12")
    check_same_end(run, reference)
    assert len(watching.starts(run)) == 2 and status.read(run).state == "done"


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_one_process_is_told_by_all(failing, tmp_path, cache):
    run = tmp_path / "run"
    processes = start(run, cache, "--steps=12", "--fail", "3", str(failing), "--pause=0.1")
    codes = [process.wait(timeout=100) for process in processes]
    assert (codes[failing], codes[1 - failing]) == (1, LOST_EXIT_CODE), output(run, 1 - failing).read_text()
    assert "the shard is gone" in output(run, failing).read_text()
    assert f"Process {failing} of 2: the shard is gone" in output(run, 1 - failing).read_text()
    assert "the shard is gone" in status.read(run).last_error


@pytest.mark.slow
def test_a_read_that_never_ends_stops_the_run_with_its_own_code(tmp_path, cache):
    run = tmp_path / "run"
    (process,) = start(run, cache, "--pause=1000", "--stall_seconds=3", processes=1)
    assert process.wait(timeout=100) == STALLED_EXIT_CODE, output(run, 0).read_text()
    said = output(run, 0).read_text()
    assert "no batch comes" in said and "stacks-0.txt" in said
    assert "prefetch" in (run / "stacks-0.txt").read_text() or "batches" in (run / "stacks-0.txt").read_text()
    found = status.read(run)
    assert (found.state, found.exit_code) == ("failed", 4) and "Nothing has moved" in found.last_error


@pytest.mark.slow
def test_processes_that_do_not_come_are_not_waited_for_for_ever(tmp_path):
    environment = {"PALIGAX_COORDINATOR": "127.0.0.1:45991", "PALIGAX_NUM_PROCESSES": "2", "PALIGAX_PROCESS_ID": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from paligax.training import peers; peers.join()"],
        env=os.environ | environment | {"PALIGAX_JOIN_SECONDS": "2"},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
    )
    assert done.returncode == LOST_EXIT_CODE
    assert "Process 1 of 2 has not found the others at 127.0.0.1:45991 within 2 s" in done.stderr.splitlines()[-1]
