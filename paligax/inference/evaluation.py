"""Held-out evaluation: every example of every task once, each task beside its blind control.

Each process reads its part of every batch (before images are decoded), all decode together, and only texts are
gathered. One compiled program serves all tasks and the control.
"""

import dataclasses
import itertools
import pathlib
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from paligax.inference import blind, placement, predictors, scoring, shown
from paligax.inference.generation import Decoding
from paligax.inference.held_out import BLIND, HeldOut, Results, print_examples, print_table, print_task
from paligax.metrics import LOWER_IS_BETTER
from paligax.training.evaluation import Evaluation


@dataclasses.dataclass(frozen=True)
class Evaluator(Evaluation):
    """Which held-out examples are asked, and when.

    Attributes:
      data: whose tasks are evaluated: lengths, vocabulary, data directory. Its split is replaced by ``split``.
      every_steps: while training, evaluate after every so many steps and at the end; 0: never.
      num_examples: of each task; None takes all.
      tasks: names; all of the data's mixture where empty.
      split: of every task's source.
      batch_size: rows of a batch over all devices; the data's own where None.
      blind: whether each image task is asked again with the images exchanged.
      num_shown: how many examples of each task are kept to be shown, and how many of the lowest scores.
      seed: of the exchange and of what is shown.
      decoding: how answers are found; greedily by default.
      class_names: of a classifier's outputs, for people; or the path of a file with one a line.
      label_groups: group → regular expression of class names; each class belongs to the first group that matches.
    """

    data: Any
    every_steps: int = 0
    num_examples: int | None = None
    tasks: tuple[str, ...] = ()
    split: str = "validation"
    batch_size: int | None = None
    blind: bool = True
    num_shown: int = 6
    seed: int = 0
    decoding: Decoding = dataclasses.field(default_factory=Decoding)
    class_names: tuple[str, ...] | str = ()
    label_groups: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def evaluate(self, step: int, module: Any, params: Any) -> Results:
        """While training: scores, and prints them with a few predictions of each task."""
        found = self.run(module, params)
        if jax.process_index() == 0:
            print_examples(found, f"step {step:,}")
            print_table({f"step {step:,}": found.results})
        return found.results

    def run(self, module: Any, params: Any) -> HeldOut:
        """Evaluates all tasks; called by all processes alike, which all get the same answer.

        Args:
          module: a PaLI, or a Classifier where the data has labels.
          params: nested dict of arrays: global ones on a mesh, or numpy.

        Raises:
          ValueError: for a task that isn't there, or one without metrics.
        """
        from paligax.data import registry

        data = dataclasses.replace(self.data, split=self.split, batch_size=self.batch_size or self.data.batch_size)
        tasks = [registry.task(data, name) for name in self.tasks] or registry.tasks(data)
        for task in tasks:
            scoring.check(task)
        where = placement.place(params, data.batch_size)
        predictor = self._predictor(module, data)
        found = HeldOut({}, {}, {}, {})
        for task in tasks:
            start = time.monotonic()
            answers, examples = self._ask(where, predictor, data, task)
            found.results[task.name] = self._score(predictor, task, answers)
            found.examples[task.name] = examples
            found.counts[task.name] = len(answers)
            found.seconds[task.name] = time.monotonic() - start
            if jax.process_index() == 0:
                print_task(task.name, found.results[task.name], found.counts[task.name], found.seconds[task.name])
        return found

    def _predictor(self, module: Any, data: Any) -> predictors.Predictor:
        if "labels" in data.feature_lengths:
            names = read_names(self.class_names)
            return predictors.LabelPredictor(module, names, group_classes(names, self.label_groups))
        return predictors.TextPredictor(module, data.vocabulary, data.feature_lengths["targets"], self.decoding)

    def _ask(
        self, where: placement.Placement, predictor: predictors.Predictor, data: Any, task: Any
    ) -> tuple[list[scoring.Answer], list[shown.Shown]]:
        """All examples of a task: their answers in order, and those to be shown."""
        rng = np.random.default_rng([self.seed, where.shard_index])
        answers: list[scoring.Answer] = []
        gallery = scoring.Gallery(self.num_shown, f"{self.seed}/{task.name}")
        batches = data.evaluation(task.name, self.num_examples, where.shard_index, where.num_shards)
        for number, (before, batch, after) in enumerate(neighbours(batches)):
            usable = usable_rows(batch)
            predictions = predictor(where, batch.batch, batch.batch.image, usable)
            others: list[Any] = [None] * len(usable)
            if self.blind:
                image, lent = exchanged_images(before, batch, after, rng)
                if any(placement.gather([bool(lent.any())])):
                    asked_again = predictor(where, batch.batch, image, lent)
                    others = [other if is_lent else None for other, is_lent in zip(asked_again, lent, strict=True)]
            first = number * where.batch_size + where.shard_index * len(usable)
            new = {
                row: _answer(predictor, task, first + row, batch.examples[row], predictions[row], others[row])
                for row in map(int, np.flatnonzero(usable))
            }
            answers += new.values()
            gallery.offer((answer.position, _with_image(answer.shown, batch, row)) for row, answer in new.items())
        answers = scoring.in_order(placement.gather(answers))
        if not answers:
            raise ValueError(f"Task {task.name!r} has no usable example in split {data.split!r}.")
        everyone = scoring.Gallery(self.num_shown, f"{self.seed}/{task.name}")
        everyone.offer(placement.gather(gallery.candidates()))
        return answers, everyone.chosen()

    def _score(self, predictor: predictors.Predictor, task: Any, answers: Sequence[scoring.Answer]) -> dict[str, float]:
        targets = [answer.target for answer in answers]
        predictions = [answer.prediction for answer in answers]
        values = scoring.measure(task, targets, predictions)
        headline = next(iter(values))
        values |= predictor.further_metrics(targets, predictions)
        controlled = [answer for answer in answers if answer.blind is not None]
        if controlled:
            control = scoring.measure(task, [a.target for a in controlled], [a.blind for a in controlled])
            values[BLIND] = control[headline]
        return values


def _answer(
    predictor: predictors.Predictor,
    task: Any,
    position: int,
    example: Mapping[str, Any],
    prediction: Any,
    other: Any,
) -> scoring.Answer:
    """Postprocesses one example's target and predictions as the task says, and scores it alone."""
    target_text = predictor.target(example)
    target = task.postprocess_fn(target_text, example=example, is_target=True)
    scored = task.postprocess_fn(prediction, example=example, is_target=False)
    blind_scored = None if other is None else task.postprocess_fn(other, example=example, is_target=False)
    headline, score = scoring.score_alone(task, target, scored)
    kept = shown.Shown(
        id=example["id"],
        prompt=predictor.prompt(example),
        target=target_text,
        prediction=predictor.text(prediction),
        blind_prediction=None if other is None else predictor.text(other),
        score=score,
        lower_is_better=headline in LOWER_IS_BETTER,
        true_boxes=scoring.boxes_of(target),
        predicted_boxes=scoring.boxes_of(scored),
    )
    return scoring.Answer(position, kept, target, scored, blind_scored)


def _with_image(example: shown.Shown, batch: Any, row: int) -> shown.Shown:
    image = np.array(batch.batch.image[row]) if image_mask(batch)[row] else None
    return dataclasses.replace(example, image=image)


def neighbours(items: Iterable[Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Each item between the one before and the one after it (None at the ends)."""
    padded = itertools.chain([None], items, [None])
    first, second, third = itertools.tee(padded, 3)
    return zip(first, itertools.islice(second, 1, None), itertools.islice(third, 2, None), strict=False)


def usable_rows(batch: Any) -> np.ndarray:
    """bool[B]: rows of an EvalBatch that are examples, and that could be used."""
    weights = np.asarray(batch.batch.weights)
    heavy = weights.reshape(len(weights), -1).any(axis=1)
    return heavy & np.asarray([example is not None for example in batch.examples])


def image_mask(batch: Any) -> np.ndarray:
    """bool[B]: rows of an EvalBatch that have an image."""
    return np.asarray(getattr(batch.batch, "image_mask", np.ones(len(batch.examples), bool)))


def exchanged_images(before: Any, batch: Any, after: Any, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The batch's images exchanged so that no row has one of its own record.

    The batches before and after lend images where the batch's own don't do (see ``blind.derange``).

    Returns:
      uint8[B, H, W, 3], and bool[B] of the rows that got another record's image.
    """

    def records(of: Any) -> list[str | None]:
        fine = usable_rows(of) & image_mask(of)
        return [
            blind.record_of(example["task"], example["id"]) if ok else None
            for example, ok in zip(of.examples, fine, strict=True)
        ]

    lenders = [of for of in (batch, before, after) if of is not None]
    pool = [(of, row) for of in lenders for row in range(len(of.examples))]
    chosen = blind.derange(records(batch), [record for of in lenders[1:] for record in records(of)], rng)
    image = np.array(batch.batch.image)
    for row in np.flatnonzero(chosen >= 0):
        lender, lent = pool[chosen[row]]
        image[row] = lender.batch.image[lent]
    return image, chosen >= 0


def read_names(names: Sequence[str] | str) -> tuple[str, ...]:
    """The names themselves, or those of a file with one a line; FileNotFoundError where there is no such file."""
    if not isinstance(names, str):
        return tuple(names)
    file = pathlib.Path(names)
    if not file.is_file():
        raise FileNotFoundError(f"No file {names!r}: Evaluator.class_names wants names, or a file with one a line.")
    return tuple(line for line in file.read_text(encoding="utf-8").splitlines() if line)


def group_classes(class_names: Sequence[str], groups: Mapping[str, str]) -> dict[str, list[int]]:
    """Group → indices of its classes; raises ValueError for a group that no class belongs to."""
    members: dict[str, list[int]] = {group: [] for group in groups}
    for i, name in enumerate(class_names):
        group = next((g for g, pattern in groups.items() if re.fullmatch(pattern, name)), None)
        if group is not None:
            members[group].append(i)
    for group, found in members.items():
        if not found:
            raise ValueError(
                f"Evaluator.label_groups: {group}={groups[group]!r} matches none of the {len(class_names)} class names "
                "that earlier groups left."
            )
    return members
