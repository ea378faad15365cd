"""However the mesh is cut, one step gives the loss and the gradients of a single device."""

import functools

import jax
import numpy as np
import pytest

from paligax.training import partitioning, step, treatments, trees
from paligax.training.partitioning import Partitioner
from tests.training import toy

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices (XLA_FLAGS of tests/conftest.py)")

SHAPES = [(8, 1, 1), (1, 8, 1), (1, 1, 8), (4, 2, 1), (2, 1, 4), (2, 2, 2)]


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


@pytest.mark.parametrize("shape", SHAPES[:4], ids=str)
def test_classifier(shape):
    check(shape, "labels")


def test_pali_with_all_three_axes():
    check((2, 2, 2), "text")


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES[:-1], ids=str)
def test_pali(shape):
    check(shape, "text")


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES[4:], ids=str)
def test_classifier_on_more_shapes(shape):
    check(shape, "labels")
