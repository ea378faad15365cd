"""How probable given answers are: of one target a row, or of many candidates for each (zero-shot classification).

The encoder runs once a row, however many candidates there are. They are teacher-forced, some at a time, and those that
go together share the keys and values that the decoder makes of the encoder states.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

Array = Any


@struct.dataclass
class Likelihood:
    """Natural logarithms of probabilities.

    Attributes:
      total: float32[B] or [B, C], of whole answers.
      tokens: float32[B, T] or [B, C, T], of each token given those before it; 0 at padding.
    """

    total: Array
    tokens: Array


@functools.partial(jax.jit, static_argnames="module")
def of_targets(module, params, example: tuple[Array, ...], targets: Array) -> Likelihood:
    """Log probabilities of one target a row: minus the loss that training has.

    Args:
      module: a PaLI or an MT5.
      params: its parameters, on one device or sharded on a mesh.
      example: the arguments of its ``encode``: image uint8[B, H, W, 3], inputs int32[B, L], image_mask bool[B]; or
        inputs.
      targets: int32[B, T], with EOS where the end counts, padded with 0.

    Returns:
      total float32[B], tokens float32[B, T].
    """
    states, mask = module.apply({"params": params}, *example, method="encode")
    return _likelihood(_decode(module, params, targets, states, mask), targets)


@functools.partial(jax.jit, static_argnames=("module", "at_once"))
def of_candidates(module, params, example: tuple[Array, ...], candidates: Array, at_once: int = 16) -> Likelihood:
    """Log probabilities of the same candidates for every row; the most probable one is the class.

    Args:
      module: a PaLI or an MT5.
      params: its parameters, on one device or sharded on a mesh.
      example: as of :func:`of_targets`.
      candidates: int32[C, T], padded with 0.
      at_once: how many candidates are decoded at a time: their logits, B · at_once · T · V numbers, are held.

    Returns:
      total float32[B, C], tokens float32[B, C, T].
    """
    states, mask = module.apply({"params": params}, *example, method="encode")
    batch = states.shape[0]

    def tokens_of(candidate: Array) -> Array:
        targets = jnp.broadcast_to(candidate, (batch, candidate.shape[0]))
        return _likelihood(_decode(module, params, targets, states, mask), targets).tokens

    # Groups of one size, the last one filled with padding: a group of another size would be a second program.
    count = candidates.shape[0]
    size = min(at_once, count)
    filled = jnp.pad(candidates, ((0, -count % size), (0, 0)))
    groups = filled.reshape(-1, size, candidates.shape[1])
    tokens = jax.lax.map(jax.vmap(tokens_of), groups)  # [groups, size, B, T]
    tokens = jnp.moveaxis(tokens.reshape(-1, *tokens.shape[2:])[:count], 0, 1)
    return Likelihood(tokens.sum(-1), tokens)


def _decode(module, params, targets: Array, states: Array, mask: Array) -> Array:
    return module.apply({"params": params}, targets, states, mask, method="decode")


def _likelihood(logits: Array, targets: Array) -> Likelihood:
    """Of float32[B, T, V] logits at int32[B, T] targets."""
    # A comparison instead of a gather: it is cut along the vocabulary like the logits.
    at_target = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 2) == targets[..., None]
    tokens = jnp.sum(jnp.where(at_target, logits, 0.0), axis=-1) - jax.nn.logsumexp(logits, axis=-1)
    tokens = jnp.where(targets > 0, tokens, 0.0)
    return Likelihood(tokens.sum(-1), tokens)
