import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paligax.models.attention import RelativeBias, attention, relative_position_bucket


def _bucket(distance: int, bidirectional: bool, buckets: int = 32, max_distance: int = 128) -> int:
    """The rule of T5's reference implementation, one number at a time."""
    result = 0
    if bidirectional:
        buckets //= 2
        result += buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return result + distance
    far = exact + int(math.log(distance / exact) / math.log(max_distance / exact) * (buckets - exact))
    return result + min(far, buckets - 1)


def test_buckets_to_distance_1500_both_ways():
    distances = np.arange(-1500, 1501)
    for bidirectional in (True, False):
        got = relative_position_bucket(jnp.asarray(distances), bidirectional, 32, 128)
        want = [_bucket(int(d), bidirectional) for d in distances]
        np.testing.assert_array_equal(got, want)


def test_attention_equals_the_formula_with_mask_causality_and_bias():
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 5, 3, 4)).astype(np.float32) for _ in range(3))
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]], bool)
    bias = RelativeBias(jnp.asarray(rng.normal(size=(32, 3)), jnp.float32), bidirectional=False)
    got = attention(q, k, v, scale=0.5, key_mask=mask, causal=True, bias=bias)
    want = np.zeros_like(q)
    for b in range(2):
        for n in range(3):
            for t in range(5):
                seen = [s for s in range(t + 1) if mask[b, s]]
                scores = np.array([q[b, t, n] @ k[b, s, n] * 0.5 + bias.table[_bucket(s - t, False), n] for s in seen])
                weights = np.exp(scores - scores.max())
                want[b, t, n] = (weights / weights.sum()) @ v[b, seen, n]
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_a_row_whose_keys_are_all_masked_is_finite():
    x = jnp.ones((1, 2, 1, 4))
    assert jnp.isfinite(attention(x, x, x, key_mask=jnp.zeros((1, 2), bool))).all()


def test_dropout_needs_its_key():
    x = jax.random.normal(jax.random.key(0), (1, 8, 2, 4))
    plain = attention(x, x, x)
    np.testing.assert_array_equal(attention(x, x, x, dropout_rate=0.5), plain)
    assert not np.allclose(attention(x, x, x, dropout_rate=0.5, dropout_key=jax.random.key(1)), plain)


def _arguments(queries, keys, heads=3, dim=8, batch=2):
    rng = np.random.default_rng(0)
    q = rng.normal(size=(batch, queries, heads, dim))
    k, v = rng.normal(size=(2, batch, keys, heads, dim))
    table = rng.normal(size=(32, heads))
    return tuple(jnp.asarray(x, jnp.float32) for x in (q, k, v, table))


@pytest.mark.parametrize("queries", [70, 128, 200])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"masked": True},
        {"bidirectional": True, "masked": True},
        {"bidirectional": False, "causal": True},
        {"bidirectional": False, "causal": True, "first_query": 5},
    ],
)
def test_chunked_is_dense_in_outputs_and_all_gradients(queries, options):
    options, keys = dict(options), 211
    arguments = _arguments(queries, keys)
    if options.pop("masked", False):
        options["key_mask"] = jnp.asarray(np.random.default_rng(1).random((2, keys)) < 0.7)
    bidirectional = options.pop("bidirectional", None)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=arguments[0].shape), jnp.float32)

    def run(form):
        def total(q, k, v, table):
            bias = None if bidirectional is None else RelativeBias(table, bidirectional)
            result = attention(q, k, v, scale=0.3, bias=bias, form=form, **options)
            return (result * weights).sum(), result

        return jax.jit(jax.grad(total, argnums=(0, 1, 2, 3), has_aux=True))(*arguments)

    (gradients, result), (expected_gradients, expected) = run("chunked"), run("dense")
    np.testing.assert_allclose(result, expected, atol=2e-6)
    for got, want in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-5 * max(1.0, float(jnp.abs(want).max())))
    assert bidirectional is None or float(jnp.abs(gradients[3]).max()) > 0.1


@pytest.mark.parametrize("bidirectional", [None, True])
def test_chunked_needs_a_tenth_of_denses_memory_at_2048_tokens(bidirectional):
    def temporaries(form):
        def total(q, k, v, table):
            bias = None if bidirectional is None else RelativeBias(table, bidirectional)
            return attention(q, k, v, bias=bias, form=form).sum()

        shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((4, 2048, 8, 64),) * 3 + ((32, 8),)]
        compiled = jax.jit(jax.grad(total, argnums=(0, 1, 2, 3))).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries("dense") >= 10 * temporaries("chunked")


def test_auto_is_dense_for_short_and_chunked_for_long_sequences():
    def loops(queries, keys, form="auto"):
        shapes = [jax.ShapeDtypeStruct((1, n, 1, 4), jnp.float32) for n in (queries, keys, keys)]
        return "scan" in str(jax.make_jaxpr(lambda q, k, v: attention(q, k, v, form=form))(*shapes))

    assert not loops(384, 384) and not loops(1, 1 << 21)
    assert loops(1764, 1764) and not loops(1764, 1764, "dense")


def test_chunks_drop_weights_of_their_own():
    x = jnp.broadcast_to(jax.random.normal(jax.random.key(0), (1, 1, 2, 4)), (1, 128, 2, 4))
    dropped = attention(x, x, x, dropout_rate=0.5, dropout_key=jax.random.key(1), form="chunked")
    assert not np.allclose(dropped[:, :64], dropped[:, 64:])
    np.testing.assert_allclose(dropped.mean(), x.mean(), rtol=0.1)


def test_an_unknown_form_is_refused():
    x = jnp.ones((1, 2, 1, 4))
    with pytest.raises(ValueError, match="'flash'.*chunked"):
        attention(x, x, x, form="flash")
