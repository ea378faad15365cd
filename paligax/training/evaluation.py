"""What the train loop asks of an evaluation."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any


class Evaluation(abc.ABC):
    """Scores the model now and then while it trains.

    Attributes:
      every_steps: evaluate after every so many steps and at the end; 0: never.
    """

    every_steps: int

    @abc.abstractmethod
    def evaluate(self, step: int, module: Any, params: Any) -> Mapping[str, Mapping[str, float]]:
        """Task → metric → value. Called by all processes at the same step.

        Args:
          step: number of updates done.
          module: the model.
          params: nested dict of global arrays; they must not be kept, the next step uses them up.
        """


@dataclasses.dataclass(frozen=True)
class NoEvaluator(Evaluation):
    """Never evaluates."""

    every_steps: int = 0

    def evaluate(self, step: int, module: Any, params: Any) -> Mapping[str, Mapping[str, float]]:
        return {}
