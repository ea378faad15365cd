"""ANLS, average normalised Levenshtein similarity (Biten et al., arXiv 1905.13648, 1907.00490): ST-VQA and DocVQA."""

from collections.abc import Collection, Sequence

import numpy as np

from paligax.metrics.text import check_pairs, edit_distance


def _distance(reference: str, prediction: str) -> float:
    length = max(len(reference.upper()), len(prediction.upper()))  # of the texts as they are: so the scorer counts
    reference, prediction = (" ".join(text.lower().split()) for text in (reference, prediction))
    return edit_distance(reference, prediction) / length if length else 0.0


def anls_scores(
    references: Sequence[Collection[str]], predictions: Sequence[str], threshold: float = 0.5
) -> np.ndarray:
    """float64[N]: similarity of each prediction to the nearest of its references, in [0, 1].

    Case and repeated blanks do not count. What is less similar than `threshold` scores 0. A similarity of exactly
    `threshold` counts, as in the challenges' scorer; in the paper's equation 1 it would not. NaN where there is no
    reference.
    """
    check_pairs(references, predictions)
    scores = []
    for texts, prediction in zip(references, predictions, strict=True):
        score = 1 - min((_distance(text, prediction) for text in texts), default=float("nan"))
        scores.append(0.0 if score < threshold else score)
    return np.array(scores, np.float64)


def anls(targets: Sequence[Collection[str]], predictions: Sequence[str], threshold: float = 0.5) -> dict[str, float]:
    """{"anls": mean of `anls_scores`} over the questions that have right answers (targets); NaN where none has."""
    scores = anls_scores(targets, predictions, threshold)
    scores = scores[~np.isnan(scores)]
    return {"anls": float(scores.mean()) if len(scores) else float("nan")}
