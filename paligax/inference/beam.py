"""Beam search: the answers of the highest score, in T5X's form or in that of transformers.

Each row has K alive hypotheses, which go on, and K finished ones, which end with EOS; both sets are sorted, best first.
A step takes the 2K best continuations of the alive ones: at most K of them end, so K are left to go on.

    form            score of n tokens                   finished are          at the greatest length
    "t5x"           log p / ((5 + n) / 6)^penalty       any of the 2K         alive count only where none has finished
    "transformers"  log p / n^penalty                   among the K best      all alive are finished

"t5x" is the brevity penalty of Wu et al. 2016 (equation 14) as T5X's decoding.beam_search has it. "transformers" gives
the tokens of generate(num_beams, length_penalty, early_stopping) there (GenerationMixin._beam_search, release 5).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from paligax.inference.decoding import EOS, reorder, start_several, step_several

Array = Any
FORMS = ("t5x", "transformers")
EARLY_STOPPING = (False, True, "never")
_NONE = -1e9  # the score of a place that holds no hypothesis


@struct.dataclass
class Hypotheses:
    """The K hypotheses of each row.

    Attributes:
      tokens: int32[B, K, T], 0 behind the end.
      scores: float32[B, K]: log probabilities of the alive ones, length-penalised scores of the finished ones.
    """

    tokens: Array
    scores: Array

    def take(self, order: Array) -> "Hypotheses":
        """Those at int32[B, J] of each row."""
        return Hypotheses(
            jnp.take_along_axis(self.tokens, order[..., None], 1), jnp.take_along_axis(self.scores, order, 1)
        )


def penalties(form: str, length_penalty: float, max_length: int) -> np.ndarray:
    """float32[T + 1]: what log probabilities of n tokens are divided by."""
    lengths = np.arange(max_length + 1, dtype=np.float64)
    if form == "t5x":
        lengths = (5.0 + lengths) / 6.0
    lengths[0] = 1.0  # no hypothesis has 0 tokens; 0 to a negative power would be infinite
    return (lengths**length_penalty).astype(np.float32)


def beam_loop(
    module,
    params,
    states: Array,
    mask: Array,
    active: Array,
    *,
    max_length: int,
    num_beams: int,
    length_penalty: float,
    early_stopping: bool | str,
    form: str,
) -> tuple[Array, Array]:
    """Beam search from encoded states; the part that is science, without ``jit``.

    Args:
      module: a PaLI or an MT5.
      params: its parameters.
      states: [B, S, D] encoder outputs.
      mask: bool[B, S]; which of them may be attended to.
      active: bool[B]; the other rows give zeros and cost no steps.
      max_length: T, the most tokens of an answer, EOS included.
      num_beams: K.
      length_penalty: the exponent in the table above; a greater one makes longer answers.
      early_stopping: when a row with K finished hypotheses is done. "never" before it is certain that no alive one can
        get a better score; False: as soon as the best alive one wouldn't if it ended now; True: at once.
      form: "t5x" or "transformers".

    Returns:
      int32[B, K, T] answers, best first, up to and including EOS, then 0; and their scores float32[B, K]. Where fewer
      than K have finished ("t5x" alone), the last are zeros with score −1e9.
    """
    batch, places = states.shape[0], jnp.arange(max_length)
    divisors = jnp.asarray(penalties(form, length_penalty, max_length))
    # Scores are negative: of the lengths that an alive hypothesis may end with, the one with the greatest divisor is
    # the best that it can hope for.
    hope_for_longest = early_stopping == "never" and length_penalty > 0

    def unfinished(carry):
        position, _, _, closed, _ = carry
        return (position < max_length) & ~jnp.all(closed)

    def step(carry):
        position, alive, finished, closed, cache = carry
        last = jnp.where(position > 0, alive.tokens[:, :, position - 1], 0)
        logits, cache = step_several(module, params, last, cache)
        best, parents, tokens = _continuations(logits, alive.scores)
        there = best > _NONE / 2
        ends = tokens == EOS
        longer = Hypotheses(jnp.take_along_axis(alive.tokens, parents[..., None], 1), best)
        longer = longer.replace(tokens=jnp.where(places == position, tokens[..., None], longer.tokens))

        counts = ends & there
        if form == "transformers":
            counts = (ends | (position == max_length - 1)) & there & (jnp.arange(2 * num_beams) < num_beams)
        counts &= ~closed[:, None]
        new_scores = jnp.where(counts, best / divisors[position + 1], _NONE)
        both = Hypotheses(
            jnp.concatenate([finished.tokens, longer.tokens], 1), jnp.concatenate([finished.scores, new_scores], 1)
        )
        finished = both.take(jax.lax.top_k(both.scores, num_beams)[1])

        going_on, order = jax.lax.top_k(jnp.where(ends, _NONE, best), num_beams)
        alive = longer.take(order).replace(scores=going_on)
        cache = reorder(cache, jnp.take_along_axis(parents, order, 1))

        worst = finished.scores[:, -1]
        full = worst > _NONE / 2
        if early_stopping is True:
            closed |= full
        else:
            hope = alive.scores[:, 0] / (divisors[max_length] if hope_for_longest else divisors[position + 1])
            closed |= full & (hope <= worst)
        return position + 1, alive, finished, closed, cache

    nothing = jnp.zeros((batch, num_beams, max_length), jnp.int32)
    # At first all hypotheses are the same, and only one may be continued.
    first = jnp.broadcast_to(jnp.where(jnp.arange(num_beams) == 0, 0.0, _NONE), (batch, num_beams))
    start = (
        jnp.int32(0),
        Hypotheses(nothing, first.astype(jnp.float32)),
        Hypotheses(nothing, jnp.full((batch, num_beams), _NONE, jnp.float32)),
        ~active,
        start_several(module, params, states, mask, max_length, num_beams),
    )
    _, alive, finished, _, _ = jax.lax.while_loop(unfinished, step, start)
    none = finished.scores[:, :1] < _NONE / 2
    there = active[:, None] & (jnp.where(none, alive.scores, finished.scores) > _NONE / 2)
    scores = jnp.where(none, alive.scores / divisors[max_length], finished.scores)
    tokens = jnp.where(none[..., None], alive.tokens, finished.tokens)
    return jnp.where(there[..., None], tokens, 0), jnp.where(there, scores, _NONE)


def _continuations(logits: Array, so_far: Array) -> tuple[Array, Array, Array]:
    """The 2K most probable continuations of each row's K hypotheses, the most probable first.

    Args:
      logits: float32[B, K, V].
      so_far: float32[B, K] log probabilities.

    Returns:
      [B, 2K] each: log probability, hypothesis that is continued, next token.
    """
    wanted = 2 * logits.shape[1]
    # No more than 2K can come from one hypothesis, so K small choices stand before one among K · 2K, not K · V.
    best, tokens = jax.lax.top_k(jax.nn.log_softmax(logits), min(wanted, logits.shape[2]))
    per_hypothesis = best.shape[2]
    total = (so_far[..., None] + best).reshape(best.shape[0], -1)
    best, index = jax.lax.top_k(total, wanted)
    tokens = jnp.take_along_axis(tokens.reshape(tokens.shape[0], -1), index, 1)
    return best, index // per_hypothesis, tokens


@functools.partial(
    jax.jit,
    static_argnames=("module", "max_length", "num_beams", "length_penalty", "early_stopping", "form"),
)
def beam_program(module, params, example: tuple[Array, ...], active: Array, **options: Any) -> tuple[Array, Array]:
    """:func:`beam_loop` of a batch, compiled once a (module, shapes, options).

    Args:
      module: a PaLI or an MT5.
      params: its parameters, on one device or sharded on a mesh.
      example: the arguments of its ``encode``: image, inputs, image_mask; or inputs.
      active: bool[B].
      options: see :func:`beam_loop`.
    """
    states, mask = module.apply({"params": params}, *example, method="encode")
    return beam_loop(module, params, states, mask, active, **options)
