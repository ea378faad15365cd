"""Scores of classification: of many labels at once, and of one class chosen by its score."""

from collections.abc import Sequence

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


def top_k_accuracy(targets: Sequence[int], predictions: np.ndarray, ks: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Classification by scoring: is the right class among the k of the highest score?

    Args:
      targets: int[N]; index of each example's right class.
      predictions: float[N, C]; log-likelihood of each class's name after the prompt, or another score, -inf allowed. Of
        equal scores the first class is the higher, as argmax has it.
      ks: those that are not below C are left out, as they say nothing.

    Returns:
      {"accuracy" (k = 1), "top_5_accuracy", …}, shares of the examples.

    Raises:
      ValueError: where shapes don't fit, a target is no class, or a score is NaN.
    """
    targets, scores = np.asarray(targets), np.asarray(predictions, np.float64)
    if scores.ndim != 2 or not scores.size or targets.shape != scores.shape[:1]:
        raise ValueError(
            f"Needed: a class index of each example and scores [examples, classes]; got shapes {targets.shape} and "
            f"{scores.shape}."
        )
    if not np.issubdtype(targets.dtype, np.integer) or targets.min() < 0 or targets.max() >= scores.shape[1]:
        raise ValueError(f"Targets must be class indices 0 … {scores.shape[1] - 1}; got {np.unique(targets)[:10]}.")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).any(axis=1).sum())} of {len(scores)} examples have a score of NaN.")
    right = scores[np.arange(len(targets)), targets][:, None]
    before = np.arange(scores.shape[1]) < targets[:, None]
    rank = ((scores > right) | ((scores == right) & before)).sum(axis=1)
    return {"accuracy" if k == 1 else f"top_{k}_accuracy": float((rank < k).mean()) for k in ks if k < scores.shape[1]}
