"""Scores of multi-label classification."""

import numpy as np


def _check(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels) > 0, np.asarray(scores, np.float64)
    if labels.shape != scores.shape or labels.ndim != 2 or not labels.size:
        raise ValueError(
            f"Labels and scores must both be [examples, classes]; got shapes {labels.shape} and {scores.shape}."
        )
    return labels, scores


def mean_average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean over the classes that occur of the average precision of ranking all examples by the class's score.

    Args:
      labels: [N, C]; > 0 where the class is present.
      scores: float[N, C]; logits or probabilities. Equal scores are ranked together (their mean precision is that at
        the last of them), so that constant scores get a class's share and no more.

    Returns:
      In [0, 1]; NaN where no class occurs.
    """
    labels, scores = _check(labels, scores)
    averages = []
    for present, score in zip(labels.T, scores.T, strict=True):
        if present.any():
            order = np.argsort(-score, kind="stable")
            hits, score = present[order], score[order]
            last = np.searchsorted(-score, -score, side="right")  # rank of the last example with the same score
            precision = hits.cumsum()[last - 1] / last
            averages.append(precision[hits].mean())
    return float(np.mean(averages)) if averages else float("nan")


def precision_at_1(labels: np.ndarray, scores: np.ndarray) -> float:
    """Share of the examples whose highest-scored class is present; examples without any label are left out."""
    labels, scores = _check(labels, scores)
    some = labels.any(axis=1)
    if not some.any():
        return float("nan")
    return float(labels[some][np.arange(some.sum()), scores[some].argmax(axis=1)].mean())
