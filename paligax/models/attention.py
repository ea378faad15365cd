"""Attention: one function, and the relative position bias that T5 adds to it.

Who calls it says what may be attended to in parts (a key mask, causality, a bias *table*) and not as one
[B, N, T, S] array, so that a form that never holds the scores can be put behind the same call.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from paligax.models import kernels

Array = Any
FORMS = ("auto", "dense", "chunked", "splash", "cudnn")
_CHUNK = 64  # queries: so few are dense in any form
_PIECES = {"tpu": 256}  # queries that the chunked form works on at a time: a TPU's matrix units want many; else _CHUNK
_MOST_DENSE_SCORES = 1024 * 1024  # of one head
_MASKED = -1e30  # finite: a row whose keys are all masked gives a uniform average, not NaN


@struct.dataclass
class RelativeBias:
    """T5's learned bias by bucketed distance (Raffel et al. 2020, section 2.1), kept as its table.

    Attributes:
      table: float[R, N], one row a bucket.
      bidirectional: whether keys behind and ahead of the query have buckets of their own (encoder) or keys ahead share
        bucket 0 (causal decoder).
      max_distance: distances from here on share the last bucket.
    """

    table: Array
    bidirectional: bool = struct.field(pytree_node=False)
    max_distance: int = struct.field(pytree_node=False, default=128)

    def dense(self, query_positions: Array, key_positions: Array, as_product: bool = False) -> Array:
        """Bias float[1, N, T, S] for int32[T] query and int32[S] key positions.

        ``as_product`` looks the same numbers up by a product with zeros and ones: on TPUs gathering single rows, and
        even more adding to them in the backward pass, takes much longer than that.
        """
        distance = key_positions[None, :] - query_positions[:, None]
        buckets = relative_position_bucket(distance, self.bidirectional, self.table.shape[0], self.max_distance)
        if as_product:
            chosen = jax.nn.one_hot(buckets, self.table.shape[0], dtype=self.table.dtype)
            return jnp.einsum("rn,tsr->nts", self.table, chosen, precision=jax.lax.Precision.HIGHEST)[None]
        return jnp.transpose(jnp.take(self.table, buckets, axis=0), (2, 0, 1))[None]


def relative_position_bucket(distance: Array, bidirectional: bool, num_buckets: int, max_distance: int) -> Array:
    """Bucket int32 of each ``key - query`` distance, as T5's reference implementation computes it.

    Half of the buckets hold one distance each, the other half grow logarithmically up to ``max_distance``.
    """
    bucket = jnp.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        bucket += (distance > 0).astype(jnp.int32) * num_buckets
        distance = jnp.abs(distance)
    else:
        distance = jnp.maximum(-distance, 0)
    exact = num_buckets // 2
    ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact) / math.log(max_distance / exact)
    far = exact + (ratio * (num_buckets - exact)).astype(jnp.int32)
    return bucket + jnp.where(distance < exact, distance, jnp.minimum(far, num_buckets - 1)).astype(jnp.int32)


def attention(
    query: Array,
    key: Array,
    value: Array,
    *,
    scale: float = 1.0,
    key_mask: Array | None = None,
    causal: bool = False,
    bias: RelativeBias | None = None,
    first_query: Array | int = 0,
    dropout_rate: float = 0.0,
    dropout_key: Array | None = None,
    form: str = "auto",
) -> Array:
    """Softmax attention with float32 scores, in one of several forms that give the same.

    Args:
      query: [B, T, N, K].
      key: [B, S, N, K].
      value: [B, S, N, K].
      scale: what the products are multiplied with: 1/√K in a ViT, 1 in T5 (which folds it into the initialisation).
      key_mask: bool[B, S]; False keys are not attended to.
      causal: whether the query at position t sees keys 0..t only.
      bias: relative position bias.
      first_query: position of the first query among the keys (a decoding step's index).
      dropout_rate: share of attention weights dropped, where ``dropout_key`` is given.
      dropout_key: random key of the dropout. Which weights are dropped depends on the form.
      form: "dense" holds all scores [B, N, T, S].
        "chunked" holds those of a few queries at a time, and computes them again, with the bias from its table, in the
        backward pass.
        "splash" is a kernel for TPUs that holds none of them. No bias.
        "cudnn" is one for GPUs, in bfloat16 or float16. It holds a bias [1, N, T, S].
        "auto" takes the kernel where the arrays lie on a mesh of such devices and its conditions hold (on TPUs: where
        the sequence is long); else dense up to 1,024 × 1,024 scores a head, and chunked beyond.
        Few queries, as in decoding, are dense in any form. The kernels take no dropout and begin at query 0.

    Returns:
      [B, T, N, K] in the dtype of ``value``.

    Raises:
      ValueError: where the form is not known, or is a kernel that does not take the arguments.
    """
    check_form(form)
    if dropout_key is None or not dropout_rate:
        dropout_rate, dropout_key = 0.0, None
    begins_at_0 = isinstance(first_query, int) and first_query == 0
    if query.shape[1] <= _CHUNK:
        form = "dense"
    elif form == "auto":
        form = _choose(query, key, key_mask, bias, allow_kernels=begins_at_0 and not dropout_rate)
    masks = dict(scale=scale, key_mask=key_mask, causal=causal)
    if form in ("splash", "cudnn"):
        refused = {
            "dropout": dropout_rate > 0,
            "a first query that is not 0": not begins_at_0,
            "a bias": form == "splash" and bias is not None,
        }
        if any(refused.values()):
            what = " or ".join(name for name, is_so in refused.items() if is_so)
            raise ValueError(f"Attention of form {form!r} can't have {what}: use form 'auto' or 'chunked'.")
        return (
            kernels.splash(query, key, value, **masks)
            if form == "splash"
            else kernels.cudnn(query, key, value, bias=bias, **masks)
        )
    extras = dict(first_query=first_query, dropout_rate=dropout_rate, dropout_key=dropout_key)
    extras |= dict(scale=scale, causal=causal, as_product=kernels.platform_of(query) == "tpu")
    if form == "dense":
        return _dense(query, key, value, key_mask=key_mask, bias=bias, **extras)

    def local(query: Array, key: Array, value: Array, key_mask: Array | None, bias: RelativeBias | None) -> Array:
        return _chunked(query, key, value, key_mask=key_mask, bias=bias, **extras)

    if dropout_rate or not begins_at_0:  # one draw for all devices; a position that is computed
        return local(query, key, value, key_mask, bias)
    # Each device works through its own rows and heads; else the bias table's gradient is summed over all devices once a
    # chunk.
    return kernels.on_each_device(local, query, key, value, key_mask, bias)


def check_form(form: str) -> None:
    """Raises ValueError with the known names where there is no such form of attention."""
    if form not in FORMS:
        raise ValueError(f"attention_form={form!r} is not known; known: {', '.join(FORMS)}.")


def _choose(query: Array, key: Array, key_mask: Array | None, bias: RelativeBias | None, allow_kernels: bool) -> str:
    """The form that "auto" stands for where there are many queries."""
    long = query.shape[1] * key.shape[1] > _MOST_DENSE_SCORES
    if allow_kernels and not (long and bias is not None):
        platform = kernels.platform_of(query)
        if platform == "tpu" and long:
            return "splash"
        if platform == "gpu" and kernels.has_cudnn() and not kernels.cudnn_problem(query, key_mask, bias, key.shape[1]):
            return "cudnn"
    return "chunked" if long else "dense"


def _chunked(
    query: Array,
    key: Array,
    value: Array,
    *,
    first_query: Array | int,
    dropout_key: Array | None,
    **options: Any,
) -> Array:
    """See :func:`attention`; holds the scores of one chunk of queries."""
    queries = query.shape[1]
    # The last chunk is filled with zeros, whose results are cut off.
    piece_size = _PIECES.get(kernels.platform_of(query), _CHUNK)
    chunks = -(-queries // piece_size)
    padded = jnp.pad(query, ((0, 0), (0, chunks * piece_size - queries), (0, 0), (0, 0)))
    pieces = jnp.moveaxis(padded.reshape(query.shape[0], chunks, piece_size, *query.shape[2:]), 1, 0)

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def one(number: Array, piece: Array) -> Array:
        own_key = None if dropout_key is None else jax.random.fold_in(dropout_key, number)
        first = first_query + number * piece_size
        return _dense(piece, key, value, first_query=first, dropout_key=own_key, **options)

    results = jax.lax.map(lambda chunk: one(*chunk), (jnp.arange(chunks), pieces))
    return jnp.moveaxis(results, 0, 1).reshape(padded.shape[:-1] + value.shape[-1:])[:, :queries]


def _dense(
    query: Array,
    key: Array,
    value: Array,
    *,
    scale: float,
    key_mask: Array | None,
    causal: bool,
    bias: RelativeBias | None,
    first_query: Array | int,
    dropout_rate: float,
    dropout_key: Array | None,
    as_product: bool,
) -> Array:
    """See :func:`attention`; holds all scores."""
    scores = jnp.einsum("btnk,bsnk->bnts", query, key, preferred_element_type=jnp.float32)
    if scale != 1.0:
        scores *= scale
    query_positions = jnp.arange(query.shape[1]) + first_query
    key_positions = jnp.arange(key.shape[1])
    if bias is not None:
        scores += bias.dense(query_positions, key_positions, as_product).astype(jnp.float32)
    if key_mask is not None:
        scores = jnp.where(key_mask[:, None, None, :], scores, _MASKED)
    if causal:
        scores = jnp.where(key_positions[None, :] <= query_positions[:, None], scores, _MASKED)
    probabilities = jax.nn.softmax(scores, axis=-1)
    if dropout_rate:
        keep = jax.random.bernoulli(dropout_key, 1.0 - dropout_rate, probabilities.shape)
        probabilities = jnp.where(keep, probabilities / (1.0 - dropout_rate), 0.0)
    return jnp.einsum("bnts,bsnk->btnk", probabilities.astype(value.dtype), value)
