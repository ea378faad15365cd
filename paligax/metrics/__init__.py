"""Scores of generated text, boxes and labels: pure numpy, whole-set functions of (targets, predictions).

`METRIC_FNS` has every metric under a name, in the form that a seqio.Task's `metric_fns` take.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from paligax.metrics.anls import anls, anls_scores
from paligax.metrics.boxes import (
    PROBLEMS,
    Boxes,
    average_precision,
    box_problems,
    detection,
    format_boxes,
    parse_boxes,
)
from paligax.metrics.captions import bleu, coco_captions, rouge_l
from paligax.metrics.cider import DocumentFrequency, cider, cider_scores
from paligax.metrics.labels import mean_average_precision, precision_at_1, top_k_accuracy
from paligax.metrics.ptb import ptb_words
from paligax.metrics.squad import LANGUAGES, mlqa, normalise_mlqa, normalise_squad, squad
from paligax.metrics.text import (
    character_error_rate,
    edit_distance,
    exact_match,
    list_match,
    normalise,
    span_accuracy,
    token_accuracy,
    token_f1,
    word_error_rate,
    words,
)
from paligax.metrics.vqa import (
    PROTOCOLS,
    Protocol,
    Question,
    answerability,
    answerable,
    merge_unanswerable,
    normalise_course,
    normalise_vqa,
    vqa_accuracy,
    vqa_accuracy_by_type,
    vqa_scores,
)

# Metrics of which less is better; of all others more is.
LOWER_IS_BETTER = frozenset(
    {
        "character_error_rate",
        "character_error_rate_seen",
        "character_error_rate_unseen",
        "malformed",
        *(f"malformed_{kind}" for kind in PROBLEMS),
        "word_error_rate",
    }
)


def _named(metric: Callable[[Any, Any], float]) -> Callable[[Any, Any], Mapping[str, float]]:
    """A function of one figure as one of {its name: figure}, with the parameters' names that seqio asks for."""

    def metric_fn(targets: Any, predictions: Any) -> Mapping[str, float]:
        return {metric.__name__: metric(targets, predictions)}

    metric_fn.__name__ = metric.__name__
    return metric_fn


# metric_fn name → protocol. The value has the same name, so that a task can have several of them.
_VQA = {
    "vqa_accuracy": "vqa_v2",
    "vqa_accuracy_2017": "vqa_v2_2017",
    "vqa_accuracy_lavis": "lavis",
    "vqa_accuracy_simple": "simple",
    "vqa_accuracy_tokyo_course": "tokyo_course",
    "vizwiz_accuracy": "vizwiz",
}


def _vqa(function: Callable, suffix: str = "") -> dict[str, Callable[[Any, Any], Mapping[str, float]]]:
    return {
        f"{name}{suffix}": functools.partial(function, protocol=PROTOCOLS[protocol], name=name)
        for name, protocol in _VQA.items()
    }


# name → (targets, predictions) → {metric: value}. "references" are the collections of all right texts of each example.
METRIC_FNS: Mapping[str, Callable[[Any, Any], Mapping[str, float]]] = {
    # references, texts
    "exact_match": _named(exact_match),
    "token_f1": _named(token_f1),
    "anls": anls,
    "squad": squad,
    **{f"mlqa_{language}": functools.partial(mlqa, language=language) for language in LANGUAGES},
    "cider": _named(cider),
    "rouge_l": _named(rouge_l),
    "coco_captions": coco_captions,
    # people's answers with repetitions, texts
    **_vqa(vqa_accuracy),
    # Questions, texts
    **_vqa(vqa_accuracy_by_type, "_by_type"),
    # 1 or 0, confidences
    "answerability": answerability,
    # one text, one text
    "character_error_rate": character_error_rate,
    "word_error_rate": word_error_rate,
    "list_match": _named(list_match),
    # token ids, token ids
    "token_accuracy": _named(token_accuracy),
    # Boxes, Boxes
    "detection": detection,
    "box_problems": box_problems,
    # class indices, scores [examples, classes]
    "top_k_accuracy": top_k_accuracy,
    # labels and scores [examples, classes]
    "mean_average_precision": _named(mean_average_precision),
    "precision_at_1": _named(precision_at_1),
}

__all__ = [
    "LANGUAGES",
    "LOWER_IS_BETTER",
    "METRIC_FNS",
    "PROBLEMS",
    "PROTOCOLS",
    "Boxes",
    "DocumentFrequency",
    "Protocol",
    "Question",
    "anls",
    "anls_scores",
    "answerability",
    "answerable",
    "average_precision",
    "bleu",
    "box_problems",
    "character_error_rate",
    "cider",
    "cider_scores",
    "coco_captions",
    "detection",
    "edit_distance",
    "exact_match",
    "format_boxes",
    "list_match",
    "mean_average_precision",
    "merge_unanswerable",
    "mlqa",
    "normalise",
    "normalise_course",
    "normalise_mlqa",
    "normalise_squad",
    "normalise_vqa",
    "parse_boxes",
    "precision_at_1",
    "ptb_words",
    "rouge_l",
    "span_accuracy",
    "squad",
    "token_accuracy",
    "token_f1",
    "top_k_accuracy",
    "vqa_accuracy",
    "vqa_accuracy_by_type",
    "vqa_scores",
    "word_error_rate",
    "words",
]
