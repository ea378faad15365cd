import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from paligax.models.attention import RelativeBias, attention
from paligax.models.placement import on_rows
from paligax.training.partitioning import Partitioner

needs_8_devices = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices (XLA_FLAGS of tests/conftest.py)")


def test_without_a_mesh_nothing_changes():
    x = jnp.ones((2, 3))
    assert on_rows(x, ("mlp",)) is x
    assert "sharding_constraint" not in str(jax.make_jaxpr(on_rows)(x))


@needs_8_devices
@pytest.mark.parametrize(
    "shape, axes, expected",
    [
        ((8, 5, 6), ("mlp",), (("data", "fsdp"), None, "tensor")),
        ((8, 5, 4, 3), ("heads", "kv"), (("data", "fsdp"), None, "tensor")),
        ((8, 5, 6), ("embed",), (("data", "fsdp"),)),
        ((6, 5, 3), ("mlp",), ("data",)),  # fsdp doesn't divide the rows, tensor not the width
        ((3, 5), (), ()),
    ],
)
def test_rows_heads_and_widths_lie_on_their_axes(shape, axes, expected):
    mesh = Partitioner(2, 2, 2).mesh(jax.devices()[:8])
    x = jax.device_put(np.ones(shape, np.float32), NamedSharding(mesh, PartitionSpec()))
    y = jax.jit(lambda x: on_rows(x, axes))(x)
    assert y.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec(*expected)), y.ndim)


@needs_8_devices
@pytest.mark.parametrize("batch, heads", [(4, 4), (3, 2), (4, 3)])
def test_chunks_of_queries_on_a_mesh_give_what_one_device_gives(batch, heads):
    """Each device its rows and heads, the bias table's gradient summed over all of them."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(batch, 130, heads, 8)).astype(np.float32) for _ in range(3))
    table = rng.normal(size=(32, heads)).astype(np.float32)
    mask = rng.random((batch, 130)) < 0.7

    def value_and_gradients(form, sharding):
        arrays = [jax.device_put(x, sharding) for x in (q, k, v, table)]
        seen = jax.device_put(mask, sharding)

        def loss(q, k, v, table):
            result = attention(q, k, v, key_mask=seen, bias=RelativeBias(table, True), form=form)
            return (result * jnp.cos(result)).sum()

        return jax.tree.map(np.asarray, jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))(*arrays))

    whole = NamedSharding(Partitioner(2, 2, 2).mesh(jax.devices()[:8]), PartitionSpec())
    got, expected = value_and_gradients("chunked", whole), value_and_gradients("dense", None)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * max(1.0, np.abs(b).max()))


def test_a_bias_looked_up_by_a_product_is_the_gathered_one():
    table = jnp.asarray(np.random.default_rng(0).normal(size=(32, 3)), jnp.float32)
    at = jnp.arange(200)
    weights = jnp.asarray(np.random.default_rng(1).normal(size=(1, 3, 200, 200)), jnp.float32)

    def sums(table, as_product):
        return (RelativeBias(table, True).dense(at, at, as_product) * weights).sum()

    dense = RelativeBias(table, True)
    np.testing.assert_array_equal(dense.dense(at, at, True), dense.dense(at, at, False))
    np.testing.assert_allclose(jax.grad(sums)(table, True), jax.grad(sums)(table, False), rtol=1e-4, atol=1e-3)
