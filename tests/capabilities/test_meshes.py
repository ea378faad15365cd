"""However the mesh is cut, one step gives the loss and the gradients of a single device."""

import functools
import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from paligax.training import checkpoints, partitioning, run_log, step, treatments, trees
from paligax.training.partitioning import Partitioner
from tests.training import toy

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices (XLA_FLAGS of tests/conftest.py)")

ROOT = pathlib.Path(__file__).parents[2]
SHAPES = [(8, 1, 1), (1, 8, 1), (4, 2, 1), (1, 1, 8), (2, 1, 4), (2, 2, 2)]


def program_on(shape, kind):
    data, fsdp, tensor = shape
    job = toy.job(kind, partitioner=Partitioner(data=data, fsdp=fsdp, tensor=tensor))
    return toy.program(job, devices=jax.devices()[: data * fsdp * tensor])


@functools.cache
def gradients(shape, kind):
    """(name → gradient, loss) of the first step."""
    program = program_on(shape, kind)
    rows = partitioning.batch_sharding(program.mesh)
    compute = jax.jit(
        lambda state, batch: step.gradients(program, state, batch),
        in_shardings=(program.shardings, rows),
        out_shardings=(
            treatments.split(program.shardings.params, program.assigned)[0],
            partitioning.replicated(program.mesh),
        ),
    )
    compiled = toy.fast(compute.lower(program.abstract, program.abstract_batch))
    state = toy.random_state(program)
    grads, metrics = compiled(state, partitioning.to_global(toy.batch(kind, 0), rows, 8))
    return trees.flatten(jax.tree.map(np.asarray, grads)), float(metrics["loss"])


def check(shape, kind):
    expected, expected_loss = gradients((1, 1, 1), kind)
    got, loss = gradients(shape, kind)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert got.keys() == expected.keys()
    whole = np.sqrt(sum(np.sum(np.square(grad)) for grad in expected.values()))
    for name, grad in expected.items():
        error = np.linalg.norm(got[name] - grad)
        if name.endswith("key/bias"):  # softmax does not see it: its gradient is rounding
            assert np.linalg.norm(grad) < 1e-6 * whole and error < 1e-6 * whole, name
        else:
            assert error < 1e-5 * np.linalg.norm(grad), name


@pytest.mark.parametrize("shape", SHAPES[:3], ids=str)
def test_classifier(shape):
    check(shape, "labels")


@pytest.mark.slow
def test_pali_with_all_three_axes():
    check((2, 2, 2), "text")


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES[:-1], ids=str)
def test_pali(shape):
    check(shape, "text")


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES[3:], ids=str)
def test_classifier_on_more_shapes(shape):
    check(shape, "labels")


def run_processes(directory, processes, *words, stop_after=None):
    """Exit codes and output of a run on some processes of two devices each; SIGTERM goes to the first one."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    command = [sys.executable, "-m", "tests.training.toy", str(directory), "--fsdp=2", *words]
    output = directory.with_suffix(".txt").open("w")
    started = [
        subprocess.Popen(
            [*command, "--join", address, str(processes), str(i)] if processes > 1 else command,
            env=os.environ | {"XLA_FLAGS": flags},
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        for i in range(processes)
    ]
    while stop_after and len(run_log.read(directory)) < stop_after and started[0].poll() is None:
        time.sleep(0.05)
    if stop_after:
        started[0].terminate()
    return [process.wait(timeout=500) for process in started], directory.with_suffix(".txt").read_text()


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_one_goes_on_for_two(tmp_path):
    codes, output = run_processes(tmp_path / "one", 1)
    assert codes == [0], output
    codes, output = run_processes(tmp_path / "two", 2, "--pause=1.0", stop_after=1)
    assert codes == [75, 75] and "Asked to stop" in output, output
    codes, output = run_processes(tmp_path / "two", 2, "--steps=8")
    assert codes == [0, 0] and output.count("Resuming") == 1, output
    codes, output = run_processes(tmp_path / "two", 1)
    assert codes == [0] and "Resuming" in output, output
    assert logged(tmp_path / "two", "weight/caption") == logged(tmp_path / "one", "weight/caption") == 9 * 8
    # Every toy shard skips one a step: nine on one process, more where two have counted.
    assert logged(tmp_path / "two", "skipped/vqa/empty text") > logged(tmp_path / "one", "skipped/vqa/empty text") == 9
    one, two = (trees.flatten(checkpoints.restore_params(tmp_path / name)[0]) for name in ("one", "two"))
    for name, value in one.items():
        if not name.endswith("key/bias"):  # moved by rounding alone
            np.testing.assert_allclose(two[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def logged(directory, name):
    """The sum of something over the run."""
    return sum(row.get(name, 0) for row in run_log.read(directory))
