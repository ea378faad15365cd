"""What is counted beside the scores, so that no score is silent about what it left out or could not read."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from paligax import metrics
from paligax.inference.scoring import Answer

# Of examples that were scored all the same. What each means, for people:
MEANINGS = {
    "targets_too_long": "examples whose target is longer than the run's length for targets: no answer of that length "
    "can equal it",
    "prompts_too_long": "examples whose prompt was cut to the run's length for inputs",
    "answers_cut_off": "answers that reached the greatest length without an end",
    "empty_answers": "answers without a word",
    "unreadable_boxes": "answers with a piece that is no box",
    "missing_images": "examples without an image in a task that has images",
}


def of_example(
    example: Mapping[str, Any], lengths: Mapping[str, int], text: str, ended: bool, scored: Any
) -> tuple[str, ...]:
    """Names (MEANINGS) of what is wrong with one example or its answer, but for a missing image.

    Args:
      example: host-side fields; "target_length" and "input_length" are the lengths before anything was cut.
      lengths: the run's feature lengths.
      text: the answer.
      ended: whether it came to its end.
      scored: what the task's postprocessing made of it.
    """
    is_text = "targets" in lengths
    found = {
        "targets_too_long": is_text and example.get("target_length", 0) > lengths["targets"],
        "prompts_too_long": is_text and example.get("input_length", 0) > lengths["inputs"],
        "answers_cut_off": not ended,
        "empty_answers": is_text and not text.strip(),
        "unreadable_boxes": isinstance(scored, metrics.Boxes) and scored.malformed > 0,
    }
    return tuple(name for name, is_so in found.items() if is_so)


def summary(answers: Sequence[Answer], skipped: Mapping[str, int]) -> dict[str, Any]:
    """The counts of a task, as they stand in results.json.

    Args:
      answers: of all examples that were scored.
      skipped: reason → number of examples that could not be used.

    Returns:
      {"skipped": {reason: number}, "unreadable_pieces": {kind: number of pieces of generated text that were no box},
      and a number for each of MEANINGS}. A task without any image misses none.
    """
    found = collections.Counter(name for answer in answers for name in answer.problems)
    without = sum(not answer.has_image for answer in answers)
    found["missing_images"] = without if without < len(answers) else 0
    found["missing_images"] += sum(number for reason, number in skipped.items() if reason == "no image")
    pieces: collections.Counter = collections.Counter()
    for answer in answers:
        if isinstance(answer.prediction, metrics.Boxes):
            pieces.update(answer.prediction.problems)
    return {
        "skipped": dict(skipped),
        **{name: found[name] for name in MEANINGS},
        "unreadable_pieces": dict(sorted(pieces.items())),
    }


def count(reasons: Iterable[str]) -> dict[str, int]:
    """Reason → number, the most frequent first."""
    return dict(collections.Counter(reasons).most_common())
