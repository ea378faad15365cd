"""Greedy decoding: the most probable next token, until every row has ended.

The encoder runs once; each step feeds one token a row into the decoder's cache. One jitted function serves every task
and every caller: it is compiled once a (model, batch shape, length), whatever is asked.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = Any


def greedy_loop(module, params, states: Array, mask: Array, active: Array, max_length: int) -> Array:
    """Decodes from encoded states; the part that is science, without ``jit``.

    Args:
      module: a PaLI (Linen module) with ``start_decoding`` and ``decode_step``.
      params: its parameters.
      states: [B, S, D] encoder outputs.
      mask: bool[B, S]; which of them may be attended to.
      active: bool[B]; False rows have ended before they begin (padding rows must not hold up the others).
      max_length: T, the most tokens that are produced.

    Returns:
      int32[B, T]: tokens up to and including EOS (1), then 0.
    """
    variables = {"params": params}
    cache = module.apply(variables, states, mask, max_length, method="start_decoding")
    batch = states.shape[0]

    def unfinished(carry):
        position, _, _, ended, _ = carry
        return (position < max_length) & ~jnp.all(ended)

    def step(carry):
        position, last, tokens, ended, cache = carry
        logits, cache = module.apply(variables, last, cache, method="decode_step")
        token = jnp.where(ended, 0, jnp.argmax(logits, axis=-1).astype(jnp.int32))
        tokens = jax.lax.dynamic_update_slice(tokens, token[:, None], (0, position))
        return position + 1, token, tokens, ended | (token == 1), cache

    start = (
        jnp.int32(0),
        jnp.zeros((batch,), jnp.int32),  # the decoder starts from pad, as in T5
        jnp.zeros((batch, max_length), jnp.int32),
        ~active,
        cache,
    )
    return jax.lax.while_loop(unfinished, step, start)[2]


def greedy(
    module, params, image: Array, inputs: Array, image_mask: Array, max_length: int, active: Array | None = None
) -> Array:
    """Greedy decoding of a batch, compiled once a (module, shapes, max_length).

    Args:
      module: a PaLI; modules with equal configuration share the compiled program.
      params: its parameters, on one device or sharded on a mesh.
      image: uint8[B, H, W, 3].
      inputs: int32[B, L], ends with EOS, padded with 0.
      image_mask: bool[B]; False rows have no image.
      max_length: T.
      active: bool[B]; rows to decode, all by default. The others give zeros and cost no steps.

    Returns:
      int32[B, T]: tokens up to and including EOS (1), then 0. Rows that never end fill all T places.
    """
    active = np.ones(inputs.shape[0], bool) if active is None else active
    return greedy_program(module, params, image, inputs, image_mask, active, max_length=max_length)


@functools.partial(jax.jit, static_argnames=("module", "max_length"))
def greedy_program(
    module, params, image: Array, inputs: Array, image_mask: Array, active: Array, max_length: int
) -> Array:
    """The compiled part of :func:`greedy`."""
    states, mask = module.apply({"params": params}, image, inputs, image_mask, method="encode")
    return greedy_loop(module, params, states, mask, active, max_length)
