"""Random answers: temperature, the k most probable tokens, the tokens that hold the probability p.

What is drawn depends on the seed, on the row's own number and on nothing else: neither on the rows beside it, nor on
its place in the batch, nor on the padding, nor on the mesh (but for a last bit of the logits, which may differ where
matrices have another shape).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from paligax.inference.decoding import EOS, start_several, step_several

Array = Any


def sharpen(logits: Array, temperature: float, top_k: int, top_p: float) -> Array:
    """Logits of the distribution that is drawn from.

    In the order of transformers: the temperature first, then the k most probable, then among these p. Tokens of equal
    probability are kept or left out together.

    Args:
      logits: float32[…, V].
      temperature: they are divided by it.
      top_k: how many tokens are kept; 0 keeps all.
      top_p: the fewest tokens that hold at least this probability are kept (Holtzman et al. 2020); 1 keeps all.

    Returns:
      float32[…, V], −∞ where a token is left out.
    """
    logits = logits.astype(jnp.float32) / temperature
    if 0 < top_k < logits.shape[-1]:
        numbers = _ordered(logits)
        logits = jnp.where(numbers >= _least(numbers, jnp.ones_like(numbers), top_k), logits, -jnp.inf)
    if top_p < 1.0:
        numbers = _ordered(logits)
        logits = jnp.where(numbers >= _least(numbers, jax.nn.softmax(logits), top_p), logits, -jnp.inf)
    return logits


def _ordered(x: Array) -> Array:
    """float32 → int32 of the same order."""
    bits = jax.lax.bitcast_convert_type(x, jnp.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _least(numbers: Array, weights: Array, wanted: float) -> Array:
    """int32[…, 1]: the greatest number such that what is as great or greater weighs at least ``wanted`` together.

    Found by halving the range of int32, 32 times: sorting a vocabulary of 250,000, or its 50 greatest, takes longer.
    """

    def halve(_, bounds):
        low, high = bounds
        middle = (low | high) - ((low ^ high) >> 1)  # of the two in the middle the higher one, without overflow
        enough = jnp.sum(jnp.where(numbers >= middle, weights, 0), axis=-1, keepdims=True) >= wanted
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle - 1)

    high = jnp.max(numbers, axis=-1, keepdims=True)
    return jax.lax.fori_loop(0, 32, halve, (jnp.full_like(high, jnp.iinfo(jnp.int32).min), high))[0]


def row_numbers(example: tuple[Array, ...]) -> Array:
    """uint32[B]: a number made of each row's own pixels and ids, whatever stands beside or behind them.

    Args:
      example: arrays [B, …] of integers or bools. Zeros at a row's end change nothing, so padding doesn't count.
    """

    def scramble(x):  # Wellons' "lowbias32": each bit depends on all others
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            x = (x ^ (x >> shift)) * jnp.uint32(factor)
        return x ^ (x >> 16)

    total = jnp.zeros(example[0].shape[0], jnp.uint32)
    for array in example:
        values = array.reshape(array.shape[0], -1).astype(jnp.uint32)
        weights = scramble(jnp.arange(1, values.shape[1] + 1, dtype=jnp.uint32)) | 1
        total = scramble(total + jnp.sum(values * weights, axis=1, dtype=jnp.uint32) + jnp.uint32(0x9E3779B9))
    return total


def sample_loop(
    module,
    params,
    states: Array,
    mask: Array,
    active: Array,
    rows: Array,
    seed: Array,
    *,
    max_length: int,
    num_samples: int,
    temperature: float,
    top_k: int,
    top_p: float,
) -> tuple[Array, Array]:
    """Draws answers from encoded states; the part that is science, without ``jit``.

    Args:
      module: a PaLI or an MT5.
      params: its parameters.
      states: [B, S, D] encoder outputs.
      mask: bool[B, S]; which of them may be attended to.
      active: bool[B]; the other rows give zeros and cost no steps.
      rows: uint32[B], the number of each row: rows with equal numbers draw alike where their logits are alike.
      seed: uint32.
      max_length: T, the most tokens of an answer, EOS included.
      num_samples: n, answers of each row.
      temperature: see :func:`sharpen`, as the next two.
      top_k: see there.
      top_p: see there.

    Returns:
      int32[B, n, T] answers up to and including EOS, then 0; and float32[B, n], the log probabilities that the model
      itself gives them (temperature 1, all tokens).
    """
    batch, samples = states.shape[0], jnp.arange(num_samples)
    of_row = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), rows)
    keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))(of_row, samples)  # [B, n]

    def unfinished(carry):
        position, _, _, _, ended, _ = carry
        return (position < max_length) & ~jnp.all(ended)

    def step(carry):
        position, last, tokens, scores, ended, cache = carry
        logits, cache = step_several(module, params, last, cache)
        now = jax.vmap(jax.vmap(lambda key: jax.random.fold_in(key, position)))(keys)
        drawn = jax.vmap(jax.vmap(jax.random.categorical))(now, sharpen(logits, temperature, top_k, top_p))
        at_drawn = jnp.take_along_axis(logits, drawn[..., None], axis=-1)[..., 0]
        scores += jnp.where(ended, 0.0, at_drawn - jax.nn.logsumexp(logits, axis=-1))
        token = jnp.where(ended, 0, drawn.astype(jnp.int32))
        tokens = jax.lax.dynamic_update_slice(tokens, token[..., None], (0, 0, position))
        return position + 1, token, tokens, scores, ended | (token == EOS), cache

    start = (
        jnp.int32(0),
        jnp.zeros((batch, num_samples), jnp.int32),
        jnp.zeros((batch, num_samples, max_length), jnp.int32),
        jnp.zeros((batch, num_samples), jnp.float32),
        jnp.broadcast_to(~active[:, None], (batch, num_samples)),
        start_several(module, params, states, mask, max_length, num_samples),
    )
    _, _, tokens, scores, _, _ = jax.lax.while_loop(unfinished, step, start)
    return tokens, scores


@functools.partial(jax.jit, static_argnames=("module", "max_length", "num_samples", "temperature", "top_k", "top_p"))
def sample_program(
    module,
    params,
    example: tuple[Array, ...],
    active: Array,
    rows: Array | None,
    seed: Array,
    **options: Any,
) -> tuple[Array, Array]:
    """:func:`sample_loop` of a batch, compiled once a (module, shapes, options); any seed uses the same program.

    Args:
      module: a PaLI or an MT5.
      params: its parameters, on one device or sharded on a mesh.
      example: the arguments of its ``encode``: image, inputs, image_mask; or inputs.
      active: bool[B].
      rows: uint32[B], see there; None: :func:`row_numbers` of the example.
      seed: uint32.
      options: see :func:`sample_loop`.
    """
    states, mask = module.apply({"params": params}, *example, method="encode")
    rows = row_numbers(example) if rows is None else rows
    return sample_loop(module, params, states, mask, active, rows, seed, **options)
