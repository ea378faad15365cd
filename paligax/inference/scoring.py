"""Scores of a task's answers, and which of them are shown."""

import dataclasses
import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from paligax import metrics
from paligax.inference.shown import Box, Shown

MetricFn = Callable[..., Mapping[str, Any]]

# The greatest values of metrics that don't end at 1.
BEST = {"cider": 10.0}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of one held-out example.

    Attributes:
      position: number of the example in its task's order.
      shown: the example as it is shown, still without its image.
      target: what the metrics compare with.
      prediction: what the metrics compare.
      blind: the same with another record's image; None where there was none.
      problems: names of what is counted (paligax.inference.problems).
      has_image: whether the model was shown an image.
    """

    position: int
    shown: Shown
    target: Any
    prediction: Any
    blind: Any
    problems: tuple[str, ...] = ()
    has_image: bool = False


def measure(metric_fns: Sequence[MetricFn], targets: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """The values of a task's metric functions, the headline metric first."""
    values: dict[str, float] = {}
    for metric_fn in metric_fns:
        for name, value in metric_fn(targets, predictions).items():
            values[name] = float(getattr(value, "value", value))  # seqio's Scalar, or a number
    return values


def score_alone(metric_fns: Sequence[MetricFn], target: Any, prediction: Any) -> tuple[str, float | None]:
    """Name and value of the headline metric on one example; ("", None) where it can't be had of a single one.

    CIDEr weighs words by how rare they are in all references, of which one example says nothing: here all weigh the
    same, until ``cider_scores`` has seen the others.
    """
    try:
        name, value = next(iter(measure(metric_fns, [target], [prediction]).items()))
    except Exception:  # noqa: BLE001  (what is wrong with all examples is told when they are measured together)
        return "", None
    if name == "cider":
        value = float(metrics.cider_scores([target], [prediction], frequency=metrics.DocumentFrequency({}, 2))[0])
    return name, value if math.isfinite(value) else None


def cider_scores(value: float, targets: Sequence[Collection[str]], predictions: Sequence[str]) -> np.ndarray | None:
    """float64[N]: the examples' own CIDEr-D, whose mean the value is; None where it is the mean of neither form."""
    try:
        found = metrics.cider_scores(targets, predictions)
        if not np.isclose(found.mean(), value, rtol=1e-9, atol=1e-12):
            split = [[" ".join(metrics.ptb_words(text)) for text in texts] for texts in targets]
            found = metrics.cider_scores(split, [" ".join(metrics.ptb_words(text)) for text in predictions], str.split)
    except (TypeError, AttributeError, ValueError):  # a metric of that name over something else
        return None
    return found if np.isclose(found.mean(), value, rtol=1e-9, atol=1e-12) else None


def rescored(answers: Sequence[Answer], headline: str, value: float) -> list[Answer]:
    """The same answers; where the headline is CIDEr, each with its own among the others."""
    if headline != "cider":
        return list(answers)
    scores = cider_scores(value, [a.target for a in answers], [a.prediction for a in answers])
    own = [None] * len(answers) if scores is None else map(float, scores)
    return [
        dataclasses.replace(answer, shown=dataclasses.replace(answer.shown, score=score))
        for answer, score in zip(answers, own, strict=True)
    ]


def boxes_of(value: Any) -> tuple[Box, ...]:
    """The boxes to be drawn of what a task's postprocessing gave: none where it isn't boxes."""
    if not isinstance(value, metrics.Boxes):
        return ()
    return tuple(Box(label, *map(float, box)) for label, box in zip(value.labels, value.boxes, strict=True))


class Gallery:
    """Which few examples are shown, with their images: some by chance, and those with the lowest scores.

    The chance is a hash of seed and position, so that the number of processes decides nothing. Each process holds the
    images of its own candidates; which of them are shown is decided when all scores are known.

    Args:
      num_shown: how many by chance, and at most how many of the lowest scores.
      seed: of the chance.
    """

    def __init__(self, num_shown: int, seed: str):
        self._num_shown, self._seed = num_shown, seed
        self._candidates: dict[int, Shown] = {}

    def offer(self, examples: Iterable[tuple[int, Shown]]) -> None:
        """Takes (position, example) in; forgets all but the candidates, so that few images are held."""
        self._candidates |= dict(examples)
        # Some of the lowest may turn out to be among those by chance: as many more are kept.
        kept = {*self._by_chance(self._candidates), *self._lowest(self._candidates)[: 2 * self._num_shown]}
        self._candidates = {position: self._candidates[position] for position in sorted(kept)}

    def images(self) -> dict[int, np.ndarray | None]:
        """Position → image of all that may still be chosen."""
        return {position: example.image for position, example in self._candidates.items()}

    def choose(self, examples: Mapping[int, Shown], held: Collection[int]) -> dict[int, bool]:
        """Position → whether it is shown for its low score: those by chance first, then the lowest.

        Args:
          examples: all of the task, by position.
          held: positions of all processes' candidates.
        """
        by_chance = self._by_chance(examples)
        candidates = {position: examples[position] for position in held if position not in by_chance}
        return dict.fromkeys(by_chance, False) | dict.fromkeys(self._lowest(candidates)[: self._num_shown], True)

    def _by_chance(self, examples: Iterable[int]) -> list[int]:
        return sorted(examples, key=self._chance)[: self._num_shown]

    def _lowest(self, examples: Mapping[int, Shown]) -> list[int]:
        shortfall = {position: example.shortfall for position, example in examples.items()}
        imperfect = [position for position, value in shortfall.items() if value is not None and value > 1e-9]
        return sorted(imperfect, key=lambda position: (-shortfall[position], self._chance(position)))

    def _chance(self, position: int) -> str:
        return hashlib.sha256(f"{self._seed}/{position}".encode()).hexdigest()


def finite(value: float) -> float | None:
    """For JSON, which knows no NaN."""
    return float(value) if np.isfinite(value) else None
