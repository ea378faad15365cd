import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paligax import models
from paligax.models.mt5 import MT5


def _small(**overrides):
    fields = dict(width=16, mlp_dim=24, encoder_depth=2, decoder_depth=3, num_heads=2, head_dim=6, vocab_size=50)
    return MT5(**(fields | overrides))


_apply = jax.jit(_small().apply)


@pytest.fixture(scope="module")
def example():
    rng = np.random.default_rng(0)
    inputs, targets = rng.integers(2, 50, (2, 7)), rng.integers(2, 50, (2, 5))
    inputs[1, 4:] = 0
    targets[1, 3:] = 0
    params = models.unbox(jax.jit(_small().init)(jax.random.key(0), inputs, targets))
    return params, jnp.asarray(inputs), jnp.asarray(targets)


@pytest.mark.parametrize(
    "name,count",
    [
        ("small", 300_176_768),
        ("base", 582_401_280),
        ("large", 1_229_581_312),
        ("xl", 3_742_619_648),
        ("xxl", 12_921_057_280),
    ],
)
def test_variants_have_the_published_numbers_of_parameters(name, count):
    ids = jnp.zeros((1, 4), jnp.int32)
    tree = jax.eval_shape(MT5.variant(name).init, jax.random.key(0), ids, ids)
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree)) == count


def test_an_unknown_variant_names_the_known_ones():
    with pytest.raises(ValueError, match="'huge' is not known; known: small, base"):
        MT5.variant("huge")


def test_padding_changes_nothing(example):
    params, inputs, targets = example
    logits = _apply(params, inputs, targets)
    padded = _apply(params, jnp.pad(inputs, ((0, 0), (0, 3))), targets)
    np.testing.assert_allclose(padded, logits, atol=1e-5)


def test_a_target_is_predicted_from_those_before_it_alone(example):
    params, inputs, targets = example
    logits = _apply(params, inputs, targets)
    changed = _apply(params, inputs, targets.at[:, 2].set(9))
    np.testing.assert_allclose(changed[:, :3], logits[:, :3], atol=1e-6)
    assert np.abs(changed[:, 3] - logits[:, 3]).max() > 1e-3


def test_cached_steps_equal_teacher_forcing(example):
    params, inputs, targets = example
    module = _small()
    logits = _apply(params, inputs, targets)
    states, mask = jax.jit(lambda ids: module.apply(params, ids, method="encode"))(inputs)
    cache = jax.jit(lambda s, m: module.apply(params, s, m, 5, method="start_decoding"))(states, mask)
    decode = jax.jit(lambda tokens, cache: module.apply(params, tokens, cache, method="decode_step"))
    tokens = jnp.zeros(2, jnp.int32)
    for t in range(5):
        step, cache = decode(tokens, cache)
        np.testing.assert_allclose(step, logits[:, t], atol=1e-5)
        tokens = targets[:, t]
    assert cache.index == 5


@pytest.mark.parametrize(
    "overrides",
    [{"unroll": 3}, *(pytest.param({"remat": policy}, marks=pytest.mark.slow) for policy in ("full", "dots"))],
    ids=str,
)
def test_remat_and_unrolling_change_no_gradient(example, overrides):
    params, inputs, targets = example

    def gradient(**overrides):
        loss = lambda p: jnp.square(_small(**overrides).apply(p, inputs, targets)).mean()  # noqa: E731
        return jax.jit(jax.grad(loss))(params)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradient(**overrides), gradient())


def test_dropout_is_active_exactly_with_its_key(example):
    params, inputs, targets = example
    module = _small(dropout=0.3)
    plain = jax.jit(module.apply)(params, inputs, targets)
    np.testing.assert_array_equal(plain, _apply(params, inputs, targets))
    dropped = jax.jit(lambda p: module.apply(p, inputs, targets, rngs={"dropout": jax.random.key(0)}))(params)
    assert np.abs(dropped - plain).max() > 1e-2
