"""CIDEr-D (Vedantam et al., arXiv 1411.5726), computed as the official COCO caption scorer does.

The official scorer splits English by a Java tokeniser; ours is `metrics.text.words`, which knows other scripts too, so
that figures agree where both split alike. As there, 10 is the maximum; papers write 1.491 as 149.1.
"""

import collections
import math
from collections.abc import Collection, Sequence

import numpy as np

from paligax.metrics.text import _check, words

_ORDERS = 4  # n-grams of 1 to 4 words
_SIGMA = 6.0  # of the length penalty


def _ngrams(text: str) -> collections.Counter:
    tokens = words(text)
    return collections.Counter(
        tuple(tokens[i : i + n]) for n in range(1, _ORDERS + 1) for i in range(len(tokens) - n + 1)
    )


class _Vector:
    """The tf-idf weights of one caption's n-grams, by order."""

    def __init__(self, counts: collections.Counter, frequency: collections.Counter, log_images: float):
        self.weights: list[dict] = [{} for _ in range(_ORDERS)]
        for ngram, count in counts.items():
            self.weights[len(ngram) - 1][ngram] = count * (log_images - math.log(max(1, frequency[ngram])))
        self.norms = [math.sqrt(sum(w * w for w in weights.values())) for weights in self.weights]
        # The official scorer's length is the number of word pairs.
        self.length = sum(count for ngram, count in counts.items() if len(ngram) == 2)

    def similarity(self, reference: "_Vector") -> float:
        penalty = math.exp(-((self.length - reference.length) ** 2) / (2 * _SIGMA**2))
        total = 0.0
        for n in range(_ORDERS):
            dot = sum(
                min(w, reference.weights[n][ngram]) * reference.weights[n][ngram]
                for ngram, w in self.weights[n].items()
                if ngram in reference.weights[n]
            )
            if self.norms[n] and reference.norms[n]:
                dot /= self.norms[n] * reference.norms[n]
            total += dot * penalty
        return total / _ORDERS


def cider_scores(references: Sequence[Collection[str]], predictions: Sequence[str]) -> np.ndarray:
    """float64[N]: CIDEr-D of each prediction, in [0, 10]; document frequencies come from the references given.

    A set of one example scores 0: every word is in every document. Texts of fewer than four words have no longer
    n-grams, so that even a perfect one stays below 10.
    """
    _check(references, predictions)
    counted = [[_ngrams(text) for text in texts] for texts in references]
    frequency = collections.Counter(ngram for texts in counted for ngram in set().union(*texts))
    log_images = math.log(len(references))
    scores = []
    for texts, prediction in zip(counted, predictions, strict=True):
        hypothesis = _Vector(_ngrams(prediction), frequency, log_images)
        scores.append(10 * np.mean([hypothesis.similarity(_Vector(t, frequency, log_images)) for t in texts] or [0.0]))
    return np.asarray(scores)


def cider(references: Sequence[Collection[str]], predictions: Sequence[str]) -> float:
    """Mean of `cider_scores`."""
    return float(cider_scores(references, predictions).mean())
