"""From a batch to what a task's metrics take: generated texts, or class logits. One kind a batch class."""

import abc
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from paligax.inference.generation import Decoding, generate
from paligax.inference.placement import Placement


class Predictor(abc.ABC):
    """Asks a model for one prediction a row, and knows how predictions are shown to people."""

    @abc.abstractmethod
    def __call__(self, placement: Placement, batch: Any, image: np.ndarray, active: np.ndarray) -> list[Any]:
        """Predictions of this process's rows.

        Args:
          placement: parameters and layout.
          batch: this process's rows (numpy leaves).
          image: uint8[B, H, W, 3] to be used instead of the batch's own.
          active: bool[B]; the other rows' predictions are of no use to anybody.
        """

    @abc.abstractmethod
    def prompt(self, example: Mapping[str, Any]) -> str:
        """What was asked, as text."""

    @abc.abstractmethod
    def target(self, example: Mapping[str, Any]) -> str:
        """What is right, as text."""

    @abc.abstractmethod
    def text(self, prediction: Any) -> str:
        """A prediction as text."""

    @abc.abstractmethod
    def further_metrics(self, targets: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
        """What is measured beside the task's own metrics."""


class TextPredictor(Predictor):
    """Generated text.

    Args:
      module: a PaLI.
      vocabulary: of the run.
      max_length: T, most tokens of an answer, where ``options`` leave it open.
      options: how answers are found; greedily by default.

    Raises:
      ValueError: where the options ask for several answers a row: one is scored.
    """

    def __init__(self, module: Any, vocabulary: Any, max_length: int, options: Decoding | None = None):
        self._module, self._vocabulary, self._max_length = module, vocabulary, max_length
        self._options = options or Decoding()
        if self._options.num_samples > 1:
            raise ValueError(
                f"Decoding.num_samples={self._options.num_samples}: an evaluation scores one answer a row; leave it "
                "at 1."
            )

    def __call__(self, placement: Placement, batch: Any, image: np.ndarray, active: np.ndarray) -> list[str]:
        *example, active = placement.put((image, batch.inputs, batch.image_mask, active))
        tokens = generate(
            self._module,
            placement.params,
            tuple(example),
            self._options,
            max_length=self._max_length,
            active=active,
        )
        return [self._vocabulary.decode(row[0]) for row in placement.rows(tokens)]

    def prompt(self, example: Mapping[str, Any]) -> str:
        return example["prompt"]

    def target(self, example: Mapping[str, Any]) -> str:
        return example["targets"]

    def text(self, prediction: str) -> str:
        return prediction

    def further_metrics(self, targets: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
        return {}


class LabelPredictor(Predictor):
    """Class logits; a class is said to be there where its logit is above 0.

    Args:
      module: a Classifier.
      class_names: of the outputs, for people; numbers stand in where there are none.
      groups: group → indices of its classes: the share of examples with the whole group right is measured apart.
    """

    def __init__(self, module: Any, class_names: Sequence[str], groups: Mapping[str, Sequence[int]]):
        self._module, self._names, self._groups = module, tuple(class_names), dict(groups)

    def __call__(self, placement: Placement, batch: Any, image: np.ndarray, active: np.ndarray) -> list[np.ndarray]:
        return list(placement.rows(_logits(self._module, placement.params, placement.put(image))))

    def prompt(self, example: Mapping[str, Any]) -> str:
        return ""

    def target(self, example: Mapping[str, Any]) -> str:
        return self.text(np.asarray(example["labels"]) - 0.5)

    def text(self, prediction: np.ndarray) -> str:
        found = np.flatnonzero(prediction > 0)
        return ", ".join(self._names[i] if i < len(self._names) else f"class {i}" for i in found)

    def further_metrics(self, targets: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
        right = (np.stack(targets) > 0.5) == (np.stack(predictions) > 0)
        values = {"exact_label_set": float(right.all(axis=1).mean())}
        for group, classes in self._groups.items():
            values[f"exact_{group}"] = float(right[:, list(classes)].all(axis=1).mean())
        return values


@functools.partial(jax.jit, static_argnames="module")
def _logits(module: Any, params: Any, image: Any) -> jax.Array:
    """uint8[B, H, W, 3] → float32[B, C]."""
    return module.apply({"params": params}, image)
