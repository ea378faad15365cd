import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paligax import models
from paligax.models.layers import Dropout, LayerNorm, Projection, RMSNorm, stack


def test_projection_contracts_the_last_axes():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    module = Projection((6, 7), ("heads", "kv", "embed", None), num_inputs=2, use_bias=True)
    variables = module.init(jax.random.key(1), x)
    assert models.logical_axes(variables)["params"] == {
        "kernel": ("heads", "kv", "embed", None),
        "bias": ("embed", None),
    }
    params = models.unbox(variables)["params"]
    want = np.einsum("abij,ijkl->abkl", x, params["kernel"]) + params["bias"]
    np.testing.assert_allclose(module.apply({"params": params}, x), want, atol=1e-5)


def test_norms_equal_their_formulas():
    x = np.random.default_rng(0).normal(2.0, 3.0, (4, 16)).astype(np.float32)
    layer = LayerNorm().apply({"params": {"scale": np.full(16, 2.0), "bias": np.ones(16)}}, x)
    np.testing.assert_allclose(
        layer, (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-6) * 2 + 1, atol=1e-4
    )
    rms = RMSNorm().apply({"params": {"scale": np.full(16, 2.0)}}, x)
    np.testing.assert_allclose(rms, x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6) * 2, atol=1e-5)


def test_dropout_is_active_exactly_with_its_key():
    x = jnp.ones((4, 100))
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x), x)
    dropped = Dropout(0.5).apply({}, x, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(dropped)) == {0.0, 2.0} and 0.4 < (dropped == 0).mean() < 0.6


class _Block(nn.Module):
    @nn.compact
    def __call__(self, x, per_layer, shared):
        return jnp.tanh(Projection((x.shape[-1],), ("embed", "mlp"))(x) + shared), per_layer


@pytest.mark.parametrize("remat", ["none", "full", "dots"])
@pytest.mark.parametrize("unroll", [1, 3])
def test_stack_is_its_layers_one_after_another(remat, unroll):
    x = jax.random.normal(jax.random.key(0), (2, 8))
    module = stack(_Block, 3, remat, unroll)()
    variables = module.init(jax.random.key(1), x, None, 0.1)
    assert models.logical_axes(variables)["params"]["Projection_0"]["kernel"] == ("layers", "embed", "mlp")
    params = models.unbox(variables)["params"]
    kernels = params["Projection_0"]["kernel"]
    assert not np.allclose(kernels[0], kernels[1])

    def plain(kernels):
        y = x
        for kernel in kernels:
            y = jnp.tanh(y @ kernel + 0.1)
        return y

    scanned = lambda kernels: module.apply({"params": {"Projection_0": {"kernel": kernels}}}, x, None, 0.1)[0]  # noqa: E731
    np.testing.assert_allclose(scanned(kernels), plain(kernels), atol=1e-6)
    got = jax.grad(lambda k: scanned(k).sum())(kernels)
    np.testing.assert_allclose(got, jax.grad(lambda k: plain(k).sum())(kernels), atol=1e-5)


def test_an_unknown_remat_names_the_known_ones():
    with pytest.raises(ValueError, match="remat='all' is not known; known: none, full, dots"):
        stack(_Block, 2, "all")
