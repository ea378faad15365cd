"""Choosing among given answers by their probability: zero-shot classification, and tasks with a few possible answers.

Each candidate is scored as the answer to the example's prompt, by the natural logarithm of its probability, EOS
included (the PaLI paper's zero-shot ImageNet: each class name after a fixed caption prompt). The encoder runs once an
image, however many candidates there are.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paligax import metrics
from paligax.inference import likelihood
from paligax.inference.placement import Placement
from paligax.inference.predictors import MetricFn, Predicted, Predictor, example_of

# Logits of candidates that are decoded together take at most so many bytes of a device.
_LOGIT_BYTES = 2**29
CLASS = "class"  # host-side field "eval/class" of a task: the index of the right candidate


class CandidatePredictor(Predictor):
    """Log-likelihoods of a task's candidates; the most probable is the answer.

    The metrics are ``top_k_accuracy``, and the task's own functions of (targets, scores), as seqio calls them. Targets
    are class indices: the task's field "eval/class" where it has one, else the candidate that equals a right answer of
    the example, letter case and blanks aside.

    Args:
      module: a PaLI, or an MT5 for tasks of text alone.
      vocabulary: of the run.
      names: the candidates. Of equal ones the first is the class.

    Raises:
      ValueError: where there are fewer than two, or an empty one.
    """

    def __init__(self, module: Any, vocabulary: Any, names: Sequence[str]):
        self._module, self._vocabulary, self._names = module, vocabulary, tuple(names)
        if len(self._names) < 2 or not all(name.strip() for name in self._names):
            raise ValueError(f"Evaluator.candidates needs at least two texts a task, none empty; got {list(names)!r}.")
        ids = [[*vocabulary.encode(name), vocabulary.eos_id] for name in self._names]
        self._ids = np.zeros((len(ids), max(map(len, ids))), np.int32)
        for row, own in zip(self._ids, ids, strict=True):
            row[: len(own)] = own
        self._index = {metrics.normalise(name): i for i, name in reversed(list(enumerate(self._names)))}

    def __call__(self, placement: Placement, batch: Any, image: Any, active: np.ndarray) -> list[Predicted]:
        example = placement.put(example_of(self._module, image, batch.inputs, batch.image_mask))
        found = likelihood.of_candidates(
            self._module, placement.params, example, self._ids, at_once=self._at_once(placement)
        )
        return list(map(Predicted, placement.rows(found.total)))

    def _at_once(self, placement: Placement) -> int:
        rows = placement.batch_size // math.prod(placement.sharding.mesh.shape[axis] for axis in ("data", "fsdp"))
        each = 4 * rows * self._ids.shape[1] * self._vocabulary.size
        return int(np.clip(_LOGIT_BYTES // each, 1, len(self._names)))

    def metric_fns(self, task: Any) -> Sequence[MetricFn]:
        scored = [lambda targets, scores, fn=fn: fn(targets, scores) for fn in task.score_metric_fns]
        return [metrics.METRIC_FNS["top_k_accuracy"], *scored]

    def prompt(self, example: Mapping[str, Any]) -> str:
        return example["prompt"]

    def target(self, example: Mapping[str, Any]) -> str:
        return self._names[self._class(example)]

    def right(self, task: Any, example: Mapping[str, Any]) -> int:
        return self._class(example)

    def said(self, task: Any, example: Mapping[str, Any], value: Any) -> np.ndarray:
        return value

    def text(self, value: np.ndarray) -> str:
        return self._names[int(np.argmax(value))]

    def _class(self, example: Mapping[str, Any]) -> int:
        if CLASS in example:
            index = int(example[CLASS])
            if not 0 <= index < len(self._names):
                raise ValueError(
                    f"Example {example['id']!r} of task {example['task']!r} says eval/class={index}; there are "
                    f"{len(self._names)} candidates."
                )
            return index
        answers = [*example["references"], example["targets"]]
        for answer in answers:
            if (index := self._index.get(metrics.normalise(answer))) is not None:
                return index
        near = difflib.get_close_matches(metrics.normalise(answers[0]), self._index, n=1, cutoff=0.0)
        raise ValueError(
            f"The right answer of example {example['id']!r} of task {example['task']!r}, {answers[0]!r}, is none of "
            f"the {len(self._names)} candidates; the nearest is {self._names[self._index[near[0]]]!r}. Complete "
            'Evaluator.candidates, or give the task a field "eval/class" with the index.'
        )
