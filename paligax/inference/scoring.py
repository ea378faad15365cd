"""Scores of a task's answers, and which of them are shown."""

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from paligax import metrics
from paligax.inference.shown import Box, Shown


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of one held-out example.

    Attributes:
      position: number of the example in its task's order.
      shown: the example as it is shown, still without its image.
      target: what the metrics compare with.
      prediction: what the metrics compare.
      blind: the same with another record's image; None where there was none.
    """

    position: int
    shown: Shown
    target: Any
    prediction: Any
    blind: Any


def check(task: Any) -> None:
    """Raises ValueError where a ``seqio.Task`` has nothing to measure answers with."""
    if not task.predict_metric_fns:
        raise ValueError(
            f"Task {task.name!r} has no metric function that takes (targets, predictions): give it metric_fns=[…] in "
            "seqio.TaskRegistry.add, or leave it out of Evaluator.tasks."
        )


def measure(task: Any, targets: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
    """The values of all metric functions of a ``seqio.Task``, the headline metric first."""
    values: dict[str, float] = {}
    for metric_fn in task.predict_metric_fns:
        for name, value in metric_fn(targets, predictions).items():
            values[name] = float(getattr(value, "value", value))  # seqio's Scalar, or a number
    return values


def score_alone(task: Any, target: Any, prediction: Any) -> tuple[str, float | None]:
    """Name and value of the headline metric on one example; ("", None) where it can't be had of a single one."""
    try:
        name, value = next(iter(measure(task, [target], [prediction]).items()))
    except (ValueError, ZeroDivisionError):
        return "", None
    return name, value if math.isfinite(value) else None


def boxes_of(value: Any) -> tuple[Box, ...]:
    """The boxes to be drawn of what a task's postprocessing gave: none where it isn't boxes."""
    if not isinstance(value, metrics.Boxes):
        return ()
    return tuple(Box(label, *map(float, box)) for label, box in zip(value.labels, value.boxes, strict=True))


class Gallery:
    """Keeps the few examples that are shown, with their images: some by chance, and those with the lowest scores.

    The chance is a hash of seed and position, so that the number of processes decides nothing.

    Args:
      num_shown: how many by chance, and at most how many of the lowest scores.
      seed: of the chance.
    """

    def __init__(self, num_shown: int, seed: str):
        self._num_shown, self._seed = num_shown, seed
        self._candidates: dict[int, Shown] = {}

    def _by_chance(self) -> list[int]:
        return sorted(self._candidates, key=self._chance)[: self._num_shown]

    def _chance(self, position: int) -> str:
        return hashlib.sha256(f"{self._seed}/{position}".encode()).hexdigest()

    def _lowest(self) -> list[int]:
        shortfall = {position: example.shortfall for position, example in self._candidates.items()}
        imperfect = [position for position, value in shortfall.items() if value is not None and value > 1e-9]
        return sorted(imperfect, key=lambda position: (-shortfall[position], self._chance(position)))

    def offer(self, examples: Iterable[tuple[int, Shown]]) -> None:
        """Takes (position, example) in; forgets all but the candidates, so that few images are held."""
        self._candidates |= dict(examples)
        # Some of the lowest may turn out to be among those by chance: as many more are kept.
        kept = {*self._by_chance(), *self._lowest()[: 2 * self._num_shown]}
        self._candidates = {position: self._candidates[position] for position in sorted(kept)}

    def candidates(self) -> list[tuple[int, Shown]]:
        """(position, example) of all that may still be chosen."""
        return list(self._candidates.items())

    def chosen(self) -> list[Shown]:
        """Those by chance, then the lowest scores, marked ``worst``."""
        by_chance = self._by_chance()
        lowest = [position for position in self._lowest() if position not in by_chance][: self._num_shown]
        worst = [dataclasses.replace(self._candidates[position], worst=True) for position in lowest]
        return [self._candidates[position] for position in by_chance] + worst


def in_order(answers: Iterable[Answer]) -> list[Answer]:
    """Every answer once, in the order of the examples: processes that read the same rows gave the same answers."""
    return [answer for _, answer in sorted({answer.position: answer for answer in answers}.items())]


def finite(value: float) -> float | None:
    """For JSON, which knows no NaN."""
    return float(value) if np.isfinite(value) else None
