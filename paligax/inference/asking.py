"""Asks a model every example of a task once, and again with exchanged images; every row read is accounted for.

Each process reads its part of every batch (before images are decoded), all decode together, and texts and a few images
are gathered. Nothing depends on how many processes there are: which images are exchanged is decided for whole batches.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from paligax.inference import blind, placement, problems, scoring, shown
from paligax.inference.predictors import Predicted, Predictor
from paligax.metrics import LOWER_IS_BETTER


@dataclasses.dataclass(frozen=True)
class Asked:
    """What became of a task's examples; the same in all processes.

    Attributes:
      answers: one an example that could be used, in their order.
      values: of the task's metric functions, the headline first.
      problems: see ``problems.summary``.
      examples: those to be shown.
    """

    answers: Sequence[scoring.Answer]
    values: Mapping[str, float]
    problems: Mapping[str, Any]
    examples: Sequence[shown.Shown]


@dataclasses.dataclass(frozen=True)
class Asker:
    """What a task is asked with.

    Attributes:
      where: parameters, and the rows of this process.
      data: with the split to be evaluated.
      num_examples: of each task; None takes all.
      blind: whether rows with images are asked again with others.
      num_shown: how many examples are shown by chance, and how many of the lowest scores.
      seed: of the exchange and of what is shown.
    """

    where: placement.Placement
    data: Any
    num_examples: int | None
    blind: bool
    num_shown: int
    seed: int

    def ask(self, predictor: Predictor, task: Any) -> Asked:
        """Asks all examples of a task.

        Raises:
          ValueError: where none of them can be used.
        """
        where, fns = self.where, predictor.metric_fns(task)
        rng = np.random.default_rng([self.seed, 0])
        gallery = scoring.Gallery(self.num_shown, f"{self.seed}/{task.name}")
        answers: list[scoring.Answer] = []
        skipped: list[tuple[int, str]] = []
        batches = self.data.evaluation(task.name, self.num_examples, where.shard_index, where.num_shards)
        read = ((batch, where.everyone(records(batch))) for batch in batches)
        for number, (before, (batch, batch_records), after) in enumerate(neighbours(read)):
            first = number * where.batch_size + where.shard_index * where.width
            usable = usable_rows(batch)
            predictions = predictor(where, batch.batch, batch.batch.image, usable)
            others: list[Predicted | None] = [None] * len(usable)
            if self.blind:
                near = [(batch, batch_records), *(other for other in (before, after) if other is not None)]
                source = blind.derange(batch_records, [record for _, of in near[1:] for record in of], rng)
                if (source >= 0).any():
                    own = np.arange(where.batch_size)
                    image = where.taken([of.batch.image for of, _ in near], np.where(source >= 0, source, own))
                    lent = source[where.shard_index * where.width :][: where.width] >= 0
                    asked_again = predictor(where, batch.batch, image, lent)
                    others = [other if is_lent else None for other, is_lent in zip(asked_again, lent, strict=True)]
            new = {}
            for row, example in enumerate(batch.examples):
                if usable[row]:
                    answer = self._answer(predictor, task, fns, first + row, example, predictions[row], others[row])
                    new[row] = dataclasses.replace(answer, has_image=bool(image_mask(batch)[row]))
                elif example is not None:
                    skipped.append((first + row, example["skip"] or "weight 0"))
            gallery.offer((answer.position, _with_image(answer, batch, row)) for row, answer in new.items())
            answers += new.values()
        return self._together(task, fns, answers, skipped, gallery)

    def _answer(
        self,
        predictor: Predictor,
        task: Any,
        fns: Sequence[scoring.MetricFn],
        position: int,
        example: Mapping[str, Any],
        prediction: Predicted,
        other: Predicted | None,
    ) -> scoring.Answer:
        """Postprocesses one example's target and predictions as the task says, and scores it alone."""
        target = predictor.right(task, example)
        scored = predictor.said(task, example, prediction.value)
        headline, score = scoring.score_alone(fns, target, scored)
        text = predictor.text(prediction.value)
        kept = shown.Shown(
            id=example["id"],
            prompt=predictor.prompt(example),
            target=predictor.target(example),
            prediction=text,
            blind_prediction=None if other is None else predictor.text(other.value),
            score=score,
            lower_is_better=headline in LOWER_IS_BETTER,
            best=scoring.BEST.get(headline, 1.0),
            true_boxes=scoring.boxes_of(target),
            predicted_boxes=scoring.boxes_of(scored),
        )
        blind_scored = None if other is None else predictor.said(task, example, other.value)
        found = problems.of_example(example, self.data.feature_lengths, text, prediction.ended, scored)
        return scoring.Answer(position, kept, target, scored, blind_scored, found)

    def _together(
        self,
        task: Any,
        fns: Sequence[scoring.MetricFn],
        answers: list[scoring.Answer],
        skipped: list[tuple[int, str]],
        gallery: scoring.Gallery,
    ) -> Asked:
        """What all processes found. Processes that read the same rows gave the same answers."""
        everyone = {answer.position: answer for answer in placement.gather(answers)}
        reasons = dict(placement.gather(skipped))
        positions = sorted([*everyone, *reasons])
        if positions != list(range(len(positions))):
            raise RuntimeError(f"Task {task.name!r}: of {len(positions)} examples some were read twice or not at all.")
        counted = problems.count(reasons.values())
        if not everyone:
            why = "; ".join(f"{number} of them: {reason}" for reason, number in counted.items())
            raise ValueError(
                f"Task {task.name!r} has no usable example in split {self.data.split!r}: {len(reasons)} were read"
                f"{f' ({why})' if why else ''}. There is nothing to score."
            )
        ordered = [everyone[position] for position in sorted(everyone)]
        values = scoring.measure(fns, [a.target for a in ordered], [a.prediction for a in ordered])
        headline = next(iter(values))
        ordered = scoring.rescored(ordered, headline, values[headline])
        by_position = {answer.position: answer.shown for answer in ordered}
        mine = gallery.images()
        chosen = gallery.choose(by_position, set(placement.gather(list(mine))))
        images = dict(placement.gather([(position, mine[position]) for position in chosen if position in mine]))
        examples = [
            dataclasses.replace(by_position[position], image=images[position], worst=worst)
            for position, worst in chosen.items()
        ]
        return Asked(ordered, values, problems.summary(ordered, counted), examples)


def records(batch: Any) -> list[str | None]:
    """Of each row of an EvalBatch the record that its image is of; None where it has none, or can't be used."""
    fine = usable_rows(batch) & image_mask(batch)
    return [
        blind.record_of(example["task"], example["id"]) if ok else None
        for example, ok in zip(batch.examples, fine, strict=True)
    ]


def _with_image(answer: scoring.Answer, batch: Any, row: int) -> shown.Shown:
    image = np.array(batch.batch.image[row]) if answer.has_image else None
    return dataclasses.replace(answer.shown, image=image)


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
