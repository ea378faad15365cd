"""Held-out evaluation: every example of every task once, each task beside its blind control.

How a task is asked: ``asking``. One compiled program serves all tasks and the control.
"""

import dataclasses
import pathlib
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from paligax import models
from paligax.inference import asking, placement, predictors, scoring
from paligax.inference.candidates import CandidatePredictor
from paligax.inference.generation import Decoding
from paligax.inference.held_out import BLIND, HeldOut, Results, print_examples, print_table, print_task
from paligax.inference.intervals import Interval, intervals
from paligax.training.evaluation import Evaluation
from paligax.training.partitioning import Partitioner
from paligax.vocabulary import check_rows


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
      seed: of the exchange, of what is shown and of the resamples.
      decoding: how answers are found; greedily by default.
      candidates: task → texts of which the most probable is the answer, instead of a generated one (zero-shot
        classification), or the path of a file with one a line.
      class_names: of a classifier's outputs, for people; or the path of a file with one a line.
      label_groups: group → regular expression of class names; each class belongs to the first group that matches.
      resamples: of the examples, for 95 % bootstrap intervals of the scores; 0: no intervals.
      partitioner: how weights that are not on a mesh yet are cut over the devices; None: each has a copy.
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
    candidates: Mapping[str, Sequence[str] | str] = dataclasses.field(default_factory=dict)
    class_names: tuple[str, ...] | str = ()
    label_groups: Mapping[str, str] = dataclasses.field(default_factory=dict)
    resamples: int = 0
    partitioner: Partitioner | None = None

    def __post_init__(self):
        for name, least in (("num_examples", 1), ("batch_size", 1), ("num_shown", 0), ("resamples", 0), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"Evaluator.{name}={value}: expected at least {least}.")

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
          module: a PaLI; an MT5 for tasks of text alone; or a Classifier where the data has labels.
          params: nested dict of arrays: global ones on a mesh, or numpy.

        Raises:
          ValueError: for a task that isn't there, has no metrics or no example that can be used; for a vocabulary that
            the model has no rows for.
        """
        from paligax.data import registry

        data = dataclasses.replace(self.data, split=self.split, batch_size=self.batch_size or self.data.batch_size)
        if data.vocabulary is not None and (rows := models.vocabulary_rows(module)):
            check_rows(data.vocabulary, rows, say=lambda line: None)  # that rows are left over, training has said
        tasks = [registry.task(data, name) for name in self.tasks] or registry.tasks(data)
        asked_how = self._predictors(module, data, [task.name for task in tasks])
        for task in tasks:
            asked_how[task.name].metric_fns(task)
        where = placement.place(params, data.batch_size, self.partitioner, module, data.feature_lengths)
        asker = asking.Asker(where, data, self.num_examples, self.blind, self.num_shown, self.seed)
        found = HeldOut({}, {}, {}, {})
        for task in tasks:
            start = time.monotonic()
            predictor = asked_how[task.name]
            asked = asker.ask(predictor, task)
            found.results[task.name] = _score(predictor, task, asked)
            found.examples[task.name] = asked.examples
            found.counts[task.name] = len(asked.answers)
            found.problems[task.name] = asked.problems
            found.answers[task.name] = asked.answers
            if self.resamples:
                found.intervals[task.name] = self._intervals(predictor, task, asked)
            found.seconds[task.name] = time.monotonic() - start
            if jax.process_index() == 0:
                print_task(task.name, found)
        return found

    def about(self, place: str) -> dict[str, Any]:
        """What results.json says of how the model at ``place`` was evaluated."""
        return {
            "checkpoint": place,
            "split": self.split,
            "num_examples": self.num_examples,
            "seed": self.seed,
            "decoding": dataclasses.asdict(self.decoding),
        }

    def _predictors(self, module: Any, data: Any, names: Sequence[str]) -> dict[str, predictors.Predictor]:
        """Task → how it is asked. The tasks share what is compiled."""
        if "labels" in data.feature_lengths:
            classes = read_names(self.class_names, "Evaluator.class_names")
            by_label = predictors.LabelPredictor(module, classes, group_classes(classes, self.label_groups))
            return dict.fromkeys(names, by_label)
        if strange := [name for name in self.candidates if name not in names]:
            raise ValueError(
                f"Evaluator.candidates names {strange[0]!r}, which is not evaluated; tasks: {', '.join(names)}."
            )
        by_text = predictors.TextPredictor(module, data.vocabulary, data.feature_lengths["targets"], self.decoding)
        chosen = {
            name: CandidatePredictor(module, data.vocabulary, read_names(texts, f"Evaluator.candidates[{name!r}]"))
            for name, texts in self.candidates.items()
        }
        return dict.fromkeys(names, by_text) | chosen

    def _intervals(self, predictor: predictors.Predictor, task: Any, asked: asking.Asked) -> dict[str, Interval]:
        """Of all metrics, and of the control."""
        seed = [self.seed, zlib.crc32(task.name.encode())]
        fns = [*predictor.metric_fns(task), predictor.further_metrics]
        answers = asked.answers
        found: dict[str, Interval] = {}
        for fn in fns:
            pairs = [a.target for a in answers], [a.prediction for a in answers]
            found |= intervals(fn, *pairs, seed=seed, resamples=self.resamples)
        controlled = [a for a in answers if a.blind is not None]
        if controlled:
            headline = next(iter(asked.values))
            pairs = [a.target for a in controlled], [a.blind for a in controlled]
            control = intervals(_headline_of(fns[0]), *pairs, seed=seed, resamples=self.resamples)
            found |= {BLIND: control[headline]} if headline in control else {}
        return found


def _headline_of(metric_fn: scoring.MetricFn) -> scoring.MetricFn:
    return lambda targets, predictions: dict([next(iter(metric_fn(targets, predictions).items()))])


def _score(predictor: predictors.Predictor, task: Any, asked: asking.Asked) -> dict[str, float]:
    answers = asked.answers
    values = dict(asked.values)
    headline = next(iter(values))
    values |= predictor.further_metrics([a.target for a in answers], [a.prediction for a in answers])
    controlled = [answer for answer in answers if answer.blind is not None]
    if controlled:
        pairs = [a.target for a in controlled], [a.blind for a in controlled]
        values[BLIND] = scoring.measure(predictor.metric_fns(task), *pairs)[headline]
    return values


def read_names(names: Sequence[str] | str, of: str) -> tuple[str, ...]:
    """The names themselves, or those of a file with one a line; FileNotFoundError where there is no such file."""
    if not isinstance(names, str):
        return tuple(names)
    file = pathlib.Path(names)
    if not file.is_file():
        raise FileNotFoundError(f"No file {names!r}: {of} wants names, or a file with one a line.")
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
