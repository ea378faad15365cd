"""The loop over the decoder's cache, and greedy decoding: the most probable next token, until every row has ended.

The encoder runs once; each step feeds one token a row (or a hypothesis) into the cache. One jitted function serves
every task and every caller: it is compiled once a (model, batch shape, length), whatever is asked. Beams: ``beam.py``;
random answers: ``sampling.py``; the options of all of them: ``generation.py``.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Array = Any
EOS = 1


def greedy_loop(module, params, states: Array, mask: Array, active: Array, max_length: int) -> Array:
    """Decodes from encoded states; the part that is science, without ``jit``.

    Args:
      module: a PaLI or an MT5 (Linen module) with ``start_decoding`` and ``decode_step``.
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
        return position + 1, token, tokens, ended | (token == EOS), cache

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
def greedy_program(module, params, *arrays: Array, max_length: int) -> Array:
    """The compiled part of :func:`greedy`; the arrays are the arguments of ``encode``, and ``active``."""
    *example, active = arrays
    states, mask = module.apply({"params": params}, *example, method="encode")
    return greedy_loop(module, params, states, mask, active, max_length)


def start_several(module, params, states: Array, mask: Array, max_length: int, count: int) -> Any:
    """A cache for ``count`` hypotheses of each row.

    Args: as of :func:`greedy_loop`.

    Returns:
      The model's cache with "self" [layers, count, B, T, N, K]. All hypotheses of a row share the keys of its encoder
      states, "cross" [layers, B, S, N, K], which are most of the memory.
    """
    cache = module.apply({"params": params}, states, mask, max_length, method="start_decoding")
    own = jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], count, *x.shape[1:])), cache.layers["self"])
    return cache.replace(layers=cache.layers | {"self": own})


def step_several(module, params, tokens: Array, cache: Any) -> tuple[Array, Any]:
    """The tokens int32[B, count] that each hypothesis ended with → logits float32[B, count, V], and the new cache."""

    def step(tokens, own):
        whole = cache.replace(layers=cache.layers | {"self": own})
        logits, after = module.apply({"params": params}, tokens, whole, method="decode_step")
        return logits, after.layers["self"]

    logits, own = jax.vmap(step, in_axes=1, out_axes=1)(tokens, cache.layers["self"])
    return logits, cache.replace(layers=cache.layers | {"self": own}, index=cache.index + 1)


def reorder(cache: Any, parents: Array) -> Any:
    """The cache of hypotheses that each continue the one at int32[B, count] of their row."""
    index = parents.T[None, :, :, None, None, None]  # [1, count, B, 1, 1, 1]
    own = jax.tree.map(lambda x: jnp.take_along_axis(x, index, axis=1), cache.layers["self"])
    return cache.replace(layers=cache.layers | {"self": own})
