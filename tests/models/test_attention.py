import math

import jax
import jax.numpy as jnp
import numpy as np

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
