"""Answers of a model, however they are found: the options that gin binds, and the one function that obeys them."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from paligax.inference import beam, decoding, sampling

Array = Any


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How answers are found: greedily by default, by beam search, or by chance.

    Attributes:
      max_length: T, the most tokens of an answer, EOS included; None: as trained.
      num_beams: K > 1 searches with so many beams, see :mod:`paligax.inference.beam`.
      length_penalty: of beam search: the exponent; T5X's 0.6 (the PaLI paper states none). transformers has 1.0.
      early_stopping: of beam search: when a row is done: "never" before nothing can be gained, False by a guess, True
        at once. transformers has False.
      beam_form: "t5x", or "transformers" for the very tokens of its ``generate``.
      temperature: above 0 answers are drawn, from logits divided by it; 0 takes the most probable.
      top_k: only so many of the most probable tokens are drawn from; 0: all.
      top_p: only the most probable tokens that hold this probability are drawn from; 1: all.
      num_samples: n, answers a row: so many draws, or the best so many of the beams.
      seed: of the draws. The same row with the same seed gives the same answers in any batch.
    """

    max_length: int | None = None
    num_beams: int = 1
    length_penalty: float = 0.6
    early_stopping: bool | str = "never"
    beam_form: str = "t5x"
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    num_samples: int = 1
    seed: int = 0

    def __post_init__(self):
        self._check(self.max_length is None or self.max_length >= 1, "max_length", "a positive number, or None")
        self._check(self.num_beams >= 1, "num_beams", "at least 1")
        self._check(self.early_stopping in beam.EARLY_STOPPING, "early_stopping", 'False, True or "never"')
        self._check(self.beam_form in beam.FORMS, "beam_form", " or ".join(map(repr, beam.FORMS)))
        self._check(self.temperature >= 0, "temperature", "0 (the most probable token) or above")
        self._check(self.top_k >= 0, "top_k", "0 (all tokens) or above")
        self._check(0 < self.top_p <= 1, "top_p", "above 0 and at most 1 (all tokens)")
        self._check(self.num_samples >= 1, "num_samples", "at least 1")
        self._check(0 <= self.seed < 2**32, "seed", "from 0 to 2³² − 1")
        if self.temperature > 0 and self.num_beams > 1:
            raise ValueError(
                f"Decoding(num_beams={self.num_beams}, temperature={self.temperature}): beams are not drawn. Leave "
                "temperature at 0 to search, or num_beams at 1 to draw."
            )
        if self.temperature == 0 and (self.top_k > 0 or self.top_p < 1):
            raise ValueError(
                f"Decoding(top_k={self.top_k}, top_p={self.top_p}) draws nothing at temperature 0: set temperature=1.0."
            )
        if self.temperature == 0 and self.num_samples > self.num_beams:
            raise ValueError(
                f"Decoding.num_samples={self.num_samples} answers a row: draw them (temperature=1.0), or search with "
                f"at least as many beams; num_beams is {self.num_beams}."
            )

    def _check(self, right: bool, name: str, expected: str) -> None:
        if not right:
            raise ValueError(f"Decoding.{name}={getattr(self, name)!r}: expected {expected}.")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """``Decoding(**options)``; raises ValueError with the nearest name for an option that isn't known."""
        known = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
                meant = f"Nearest: {near[0]!r}." if near else f"Known: {', '.join(known)}."
                raise ValueError(f"Decoding has no option {name!r}. {meant}")
        return cls(**options)


def generate(
    module,
    params,
    example: tuple[Array, ...],
    options: Decoding,
    *,
    max_length: int | None = None,
    active: Array | None = None,
    rows: Array | None = None,
) -> Array:
    """Answers of a batch, compiled once a (module, shapes, options but for the seed).

    Args:
      module: a PaLI or an MT5; modules with equal configuration share the compiled program.
      params: its parameters, on one device or sharded on a mesh.
      example: the arguments of its ``encode``: image uint8[B, H, W, 3], inputs int32[B, L], image_mask bool[B]; or
        inputs alone.
      options: how.
      max_length: T where the options leave it open.
      active: bool[B]; rows to decode, all by default. The others give zeros and cost no steps.
      rows: uint32[B]: where answers are drawn, the number of each row instead of one made of its contents, so that
        equal rows draw differently.

    Returns:
      int32[B, n, T], of beams the best first: tokens up to and including EOS (1), then 0.

    Raises:
      ValueError: where no greatest length is given.
    """
    max_length = options.max_length or max_length
    if not max_length:
        raise ValueError("No greatest length of an answer is given: set Decoding.max_length.")
    active = np.ones(example[0].shape[0], bool) if active is None else active
    if options.temperature > 0:
        tokens, _ = sampling.sample_program(
            module,
            params,
            example,
            active,
            rows,
            np.uint32(options.seed),
            max_length=max_length,
            num_samples=options.num_samples,
            temperature=float(options.temperature),
            top_k=options.top_k,
            top_p=float(options.top_p),
        )
        return tokens
    if options.num_beams > 1:
        tokens, _ = beam.beam_program(
            module,
            params,
            example,
            active,
            max_length=max_length,
            num_beams=options.num_beams,
            length_penalty=float(options.length_penalty),
            early_stopping=options.early_stopping,
            form=options.beam_form,
        )
        return tokens[:, : options.num_samples]
    return decoding.greedy_program(module, params, *example, active, max_length=max_length)[:, None]
