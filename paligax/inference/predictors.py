"""From a batch to what a task's metrics take: generated texts, scores of given answers, or class logits."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from paligax import models
from paligax.inference.generation import Decoding, generate
from paligax.inference.placement import Placement

MetricFn = Callable[..., Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Predicted:
    """What the model said of one row.

    Attributes:
      value: a text, scores float32[C], or logits float32[C].
      ended: False for a text that had to stop at the greatest length.
    """

    value: Any
    ended: bool = True


class Predictor(abc.ABC):
    """Asks a model for one prediction a row, and knows how predictions are compared and shown to people."""

    @abc.abstractmethod
    def __call__(self, placement: Placement, batch: Any, image: Any, active: np.ndarray) -> list[Predicted]:
        """Predictions of this process's rows.

        Args:
          placement: parameters and layout.
          batch: this process's rows (numpy leaves).
          image: uint8[B, H, W, 3] to be used instead of the batch's own: this process's rows, or a global array.
          active: bool[B]; the other rows' predictions are of no use to anybody.
        """

    @abc.abstractmethod
    def prompt(self, example: Mapping[str, Any]) -> str:
        """What was asked, as text."""

    @abc.abstractmethod
    def target(self, example: Mapping[str, Any]) -> str:
        """What is right, as text."""

    @abc.abstractmethod
    def text(self, value: Any) -> str:
        """A prediction as text."""

    def metric_fns(self, task: Any) -> Sequence[MetricFn]:
        """The functions (targets, predictions) → {metric: value} of a ``seqio.Task``, the headline's first.

        Raises ValueError where it has none.
        """
        if not task.predict_metric_fns:
            raise ValueError(
                f"Task {task.name!r} has no metric function that takes (targets, predictions): give it metric_fns=[…] "
                "in seqio.TaskRegistry.add, leave it out of Evaluator.tasks, or name its answers in "
                "Evaluator.candidates."
            )
        return task.predict_metric_fns

    def right(self, task: Any, example: Mapping[str, Any]) -> Any:
        """What the metrics compare with: the target as the task postprocesses it."""
        return task.postprocess_fn(self.target(example), example=example, is_target=True)

    def said(self, task: Any, example: Mapping[str, Any], value: Any) -> Any:
        """What the metrics compare: the prediction as the task postprocesses it."""
        return task.postprocess_fn(value, example=example, is_target=False)

    def further_metrics(self, targets: Sequence[Any], predictions: Sequence[Any]) -> dict[str, float]:
        """What is measured beside the task's own metrics."""
        return {}


def example_of(module: Any, image: Any, inputs: Any, image_mask: Any) -> tuple[Any, ...]:
    """The arguments of a module's ``encode``. An MT5 takes the text alone.

    Raises ValueError where rows show an image to a model that sees none.
    """
    if not isinstance(module, models.MT5):
        return image, inputs, image_mask
    if np.any(image_mask):
        raise ValueError(
            "The model is an MT5, which sees no images, and the task shows some. Evaluate tasks of text alone "
            "(Evaluator.tasks), or a PaLI."
        )
    return (inputs,)


class TextPredictor(Predictor):
    """Generated text.

    Args:
      module: a PaLI, or an MT5 for tasks of text alone.
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

    def __call__(self, placement: Placement, batch: Any, image: Any, active: np.ndarray) -> list[Predicted]:
        given = example_of(self._module, image, batch.inputs, batch.image_mask)
        *example, active = placement.put((*given, active))
        tokens = generate(
            self._module,
            placement.params,
            tuple(example),
            self._options,
            max_length=self._max_length,
            active=active,
        )
        best, eos = placement.rows(tokens)[:, 0], self._vocabulary.eos_id
        return [Predicted(self._vocabulary.decode(row), bool((row == eos).any())) for row in best]

    def prompt(self, example: Mapping[str, Any]) -> str:
        return example["prompt"]

    def target(self, example: Mapping[str, Any]) -> str:
        return example["targets"]

    def text(self, value: str) -> str:
        return value


class LabelPredictor(Predictor):
    """Class logits; a class is said to be there where its logit is above 0.

    Args:
      module: a Classifier.
      class_names: of the outputs, for people; numbers stand in where there are none.
      groups: group → indices of its classes: the share of examples with the whole group right is measured apart.
    """

    def __init__(self, module: Any, class_names: Sequence[str], groups: Mapping[str, Sequence[int]]):
        self._module, self._names, self._groups = module, tuple(class_names), dict(groups)

    def __call__(self, placement: Placement, batch: Any, image: Any, active: np.ndarray) -> list[Predicted]:
        return list(map(Predicted, placement.rows(_logits(self._module, placement.params, placement.put(image)))))

    def prompt(self, example: Mapping[str, Any]) -> str:
        return ""

    def target(self, example: Mapping[str, Any]) -> str:
        return self.text(np.asarray(example["labels"]) - 0.5)

    def text(self, value: np.ndarray) -> str:
        found = np.flatnonzero(value > 0)
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
