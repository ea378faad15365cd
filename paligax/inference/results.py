"""What `paligax eval` leaves behind for programs: results.json, and predictions.jsonl with every example."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from paligax.inference import scoring
from paligax.inference.held_out import BLIND, HeldOut
from paligax.metrics import LOWER_IS_BETTER

FORMAT = 1
RESULTS, PREDICTIONS = "results.json", "predictions.jsonl"

# Beginning of a metric's name → why it has no value.
_UNDEFINED = (
    (("ap", "ap50", "ap75"), "no example has a true box"),
    (("mean_average_precision",), "no class occurs in any example"),
    (("precision_at_1",), "no example has a label"),
    (("vqa_accuracy", "vizwiz_accuracy"), "no question has people's answers"),
    (("answerability_average_precision",), "every question is answerable"),
)


def described(found: HeldOut, about: Mapping[str, Any]) -> dict[str, Any]:
    """What results.json holds.

    Args:
      found: of an evaluation.
      about: what was evaluated and how: plain values, e.g. {"checkpoint": …, "split": …}.

    Returns:
      {"format": 1, **about, "tasks": {task: {…}}}, of each task "headline" (the name of its first metric),
      "lower_is_better", "metrics" {name: value}, "blind" (the headline under exchanged images; null for tasks without
      images), "examples" (how many were scored), "blind_examples", "confidence_intervals" {name: {"low", "high",
      "resamples", "method", "of"}} of metrics and "blind", "undefined" {name: why it is null}, "problems" (see
      ``problems.summary``) and "seconds".
    """
    return {"format": FORMAT, **about, "tasks": {task: task_results(found, task) for task in found.results}}


def task_results(found: HeldOut, task: str) -> dict[str, Any]:
    """What results.json holds of one task."""
    values = dict(found.results[task])
    blind = values.pop(BLIND, None)
    headline = next(iter(values))
    answers = found.answers.get(task, ())
    named = values if blind is None else values | {BLIND: blind}
    return {
        "headline": headline,
        "lower_is_better": headline in LOWER_IS_BETTER,
        "metrics": {name: scoring.finite(value) for name, value in values.items()},
        "blind": None if blind is None else scoring.finite(blind),
        "examples": found.counts[task],
        "blind_examples": sum(answer.blind is not None for answer in answers),
        "confidence_intervals": {
            name: {key: _finite(value) for key, value in dataclasses.asdict(interval).items()}
            for name, interval in found.intervals.get(task, {}).items()
        },
        "undefined": {
            name: why_undefined(headline if name == BLIND else name, found.counts[task])
            for name, value in named.items()
            if scoring.finite(value) is None
        },
        "problems": dict(found.problems[task]),
        "seconds": round(found.seconds[task], 3),
    }


def why_undefined(metric: str, count: int) -> str:
    """Why a metric's value isn't a number on a task of so many examples."""
    for names, reason in _UNDEFINED:
        if metric in names or metric.startswith(tuple(f"{name}_" for name in names)):
            return reason
    return f"the metric function gave no number for these {count:,} examples"


def _finite(value: Any) -> Any:
    return scoring.finite(value) if isinstance(value, float) else value


def write(directory: str | os.PathLike, found: HeldOut, about: Mapping[str, Any]) -> pathlib.Path:
    """Writes both files, each whole or not at all, and returns the path of results.json.

    predictions.jsonl has a line for every example that was scored: "task", "id", "position" (in the task's order),
    "prompt", "target", "prediction", "blind_prediction", "score" (the headline on this example alone) and "problems".
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f"{PREDICTIONS}.partial"
    with partial.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in _lines(found))
    partial.replace(directory / PREDICTIONS)
    partial = directory / f"{RESULTS}.partial"
    text = json.dumps(described(found, about), indent=1, ensure_ascii=False, allow_nan=False)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(directory / RESULTS)
    return directory / RESULTS


def _lines(found: HeldOut) -> Iterator[dict[str, Any]]:
    for task, answers in found.answers.items():
        for answer in answers:
            example = answer.shown
            yield {
                "task": task,
                "id": example.id,
                "position": answer.position,
                "prompt": example.prompt,
                "target": example.target,
                "prediction": example.prediction,
                "blind_prediction": example.blind_prediction,
                "score": example.score,
                "problems": list(answer.problems),
            }
