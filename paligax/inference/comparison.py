"""Two models on the same held-out examples: what a training forgot.

PaLI insists that mT5's language ability is kept (the paper's section on language understanding): the same tasks of text
alone are asked of mT5 and of what vision-language training made of it. Beside the tasks' own metrics the right answers
are teacher-forced: minus their log-probability a token ("nats_per_token") moves long before a generated answer does.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paligax import models
from paligax.inference import likelihood, placement, scoring
from paligax.inference.predictors import example_of
from paligax.inference.subject import Subject
from paligax.metrics import LOWER_IS_BETTER

NATS = "nats_per_token"
RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Compared:
    """A task, asked of both models.

    Attributes:
      before, after: metric → value; the task's headline first, then NATS.
      lost: metric → how much worse it is after; negative where it is better.
      nats_interval: 95 % interval of what is lost in NATS, of resampled examples (the same of both models).
      examples: number of examples.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]
    lost: Mapping[str, float]
    nats_interval: tuple[float, float]
    examples: int


def compare(evaluator: Any, before: Subject, after: Subject) -> dict[str, Compared]:
    """Asks both models the evaluator's tasks; called by all processes alike.

    Args:
      evaluator: whose data have a vocabulary, which both models share. Each model is asked at its own resolution.
      before: a run, a checkpoint, an export, or foreign weights: an mT5 for tasks of text alone.
      after: likewise.

    Raises:
      ValueError: where a model doesn't fit the data (Subject.fitted), a task shows images to an mT5, or the models
        aren't asked the same.
    """
    found = [_asked(evaluator, subject) for subject in (before, after)]  # one model in memory at a time
    (values, nats), (values_after, nats_after) = found
    compared = {}
    for task in values:
        own, others = nats[task], nats_after[task]
        if not np.array_equal(own[:, 1], others[:, 1]):
            raise ValueError(
                f"Task {task!r} gives the two models other targets: {int(own[:, 1].sum()):,} tokens before, "
                f"{int(others[:, 1].sum()):,} after. Their vocabularies or TASK_FEATURE_LENGTHS differ."
            )
        scores = {**values[task], NATS: float(own[:, 0].sum() / own[:, 1].sum())}
        scores_after = {**values_after[task], NATS: float(others[:, 0].sum() / others[:, 1].sum())}
        lost = {
            name: scores_after[name] - score if _lower_is_better(name) else score - scores_after[name]
            for name, score in scores.items()
            if name in scores_after
        }
        interval = _interval(own, others, evaluator.seed)
        compared[task] = Compared(scores, scores_after, lost, interval, len(own))
    return compared


def _asked(evaluator: Any, subject: Subject) -> tuple[Mapping[str, Mapping[str, float]], dict[str, np.ndarray]]:
    """Metrics of each task, and float64[N, 2] of each task's examples: nats of the target, and its tokens."""
    lengths = dict(evaluator.data.feature_lengths)
    lengths["image"] = subject.feature_lengths.get("image", lengths["image"])
    data = dataclasses.replace(evaluator.data, feature_lengths=lengths)
    evaluator = subject.fitted(dataclasses.replace(evaluator, data=data, blind=False, resamples=0, num_shown=0))
    where = placement.place(
        subject.params(lengths),
        evaluator.batch_size or evaluator.data.batch_size,
        evaluator.partitioner,
        subject.module,
        lengths,
    )
    results = evaluator.run(subject.module, where.params).results
    return results, {task: _nats(evaluator, where, subject.module, task) for task in results}


def _nats(evaluator: Any, where: placement.Placement, module: models.PaLI | models.MT5, task: str) -> np.ndarray:
    data = dataclasses.replace(evaluator.data, split=evaluator.split, batch_size=where.batch_size)
    rows: list[tuple[float, int]] = []
    for batch in data.evaluation(task, evaluator.num_examples, where.shard_index, where.num_shards):
        given = batch.batch
        example = where.put(example_of(module, given.image, given.inputs, given.image_mask))
        found = where.rows(likelihood.of_targets(module, where.params, example, where.put(given.targets)).tokens)
        counted = np.asarray(given.weights) > 0
        own = [
            (-float(tokens[mask].sum(dtype=np.float64)), int(mask.sum()))
            for tokens, mask in zip(found, counted, strict=True)
        ]
        rows += [row for row in where.everyone(own) if row[1]]
    return np.asarray(rows, np.float64).reshape(-1, 2)


def _interval(before: np.ndarray, after: np.ndarray, seed: int) -> tuple[float, float]:
    """2.5 and 97.5 percentiles of the difference, over resamples of the examples."""
    rng = np.random.default_rng(seed)
    differences = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, len(before), len(before))
        tokens = before[chosen, 1].sum()
        differences.append((after[chosen, 0].sum() - before[chosen, 0].sum()) / tokens)
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)


def _lower_is_better(name: str) -> bool:
    return name == NATS or name in LOWER_IS_BETTER


def described(compared: Mapping[str, Compared], before: str, after: str) -> dict[str, Any]:
    """For JSON: {"before": place, "after": place, "tasks": {task: Compared's fields}}; NaN is None."""
    tasks = {}
    for task, one in compared.items():
        values = {
            part: {name: scoring.finite(v) for name, v in getattr(one, part).items()}
            for part in ("before", "after", "lost")
        }
        tasks[task] = {**values, "nats_interval": list(one.nats_interval), "examples": one.examples}
    return {"before": before, "after": after, "tasks": tasks}


def print_table(compared: Mapping[str, Compared], others: Sequence[str] = ()) -> None:
    """Prints each task's headline and its nats a token, before and after; and the metrics named in ``others``."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Before and after", title_justify="left")
    table.add_column("task")
    table.add_column("metric", style="dim")
    for title in ("before", "after", "lost"):
        table.add_column(title, justify="right")
    for task, one in compared.items():
        for name in dict.fromkeys([next(iter(one.before)), *(n for n in others if n in one.lost), NATS]):
            lost = f"{one.lost[name]:+.3f}"
            if name == NATS:
                lost += f" [{one.nats_interval[0]:+.3f}, {one.nats_interval[1]:+.3f}]"
            table.add_row(task, name, f"{one.before[name]:.3f}", f"{one.after[name]:.3f}", lost)
    Console().print(table)
