"""Scores of generated text, boxes and labels: pure numpy, whole-set functions of (targets, predictions)."""

from paligax.metrics.boxes import Boxes, average_precision, format_boxes, parse_boxes
from paligax.metrics.cider import cider, cider_scores
from paligax.metrics.labels import mean_average_precision, precision_at_1
from paligax.metrics.text import (
    character_error_rate,
    exact_match,
    list_match,
    normalise,
    span_accuracy,
    token_accuracy,
    token_f1,
    words,
)

# Metrics of which less is better; of all others more is.
LOWER_IS_BETTER = frozenset(
    {"character_error_rate", "character_error_rate_seen", "character_error_rate_unseen", "malformed"}
)

__all__ = [
    "LOWER_IS_BETTER",
    "Boxes",
    "average_precision",
    "character_error_rate",
    "cider",
    "cider_scores",
    "exact_match",
    "format_boxes",
    "list_match",
    "mean_average_precision",
    "normalise",
    "parse_boxes",
    "precision_at_1",
    "span_accuracy",
    "token_accuracy",
    "token_f1",
    "words",
]
