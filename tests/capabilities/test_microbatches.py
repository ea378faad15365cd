"""However a batch is cut into microbatches, and however unevenly the tokens fall on them, the step is the same."""

import jax
import numpy as np
import pytest

from paligax.training import partitioning, step, trees
from paligax.training.partitioning import Partitioner
from tests.training import toy


def gradients(num_microbatches, partitioner=Partitioner(), devices=1):  # noqa: B008 (it is not changed)
    program = toy.program(
        toy.trainer(num_microbatches=num_microbatches, partitioner=partitioner), devices=jax.devices()[:devices]
    )
    rows = partitioning.batch_sharding(program.mesh)
    compute = jax.jit(lambda state, batch: step.gradients(program, state, batch))
    batch = toy.text_batch(1, 8)
    counts = batch.weights.sum(1)
    assert len({counts[i::2].sum() for i in range(2)}) == 2, "unequal token counts"
    compiled = toy.fast(compute.lower(program.abstract, program.abstract_batch))
    grads, metrics = compiled(toy.random_state(program), partitioning.to_global(batch, rows, 8))
    return trees.flatten(jax.tree.map(np.asarray, grads)), jax.tree.map(np.asarray, metrics)


def check(got, expected):
    for name, value in expected[1].items():
        np.testing.assert_allclose(got[1][name], value, rtol=1e-6, err_msg=name)
    whole = np.sqrt(sum(np.sum(np.square(grad)) for grad in expected[0].values()))
    for name, grad in expected[0].items():
        error = np.linalg.norm(got[0][name] - grad)
        # Softmax does not see key biases: their gradient is rounding.
        assert error < 1e-6 * (whole if name.endswith("key/bias") else np.linalg.norm(grad)), name


def test_two_microbatches_equal_one():
    check(gradients(2), gradients(1))


@pytest.mark.slow
def test_eight_microbatches_equal_one():
    check(gradients(8), gradients(1))


@pytest.mark.slow
@pytest.mark.skipif(jax.device_count() < 4, reason="needs 4 devices")
def test_microbatches_on_a_mesh_equal_one_on_a_device():
    got = gradients(2, Partitioner(data=2, fsdp=2), 4)
    expected = gradients(1)
    assert got[1]["loss"] == pytest.approx(expected[1]["loss"], rel=1e-5)
    assert got[1]["weight"] == expected[1]["weight"]
