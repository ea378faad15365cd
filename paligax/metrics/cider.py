"""CIDEr-D (Vedantam et al., arXiv 1411.5726), computed as the official COCO caption scorer does.

The official scorer splits English by a Java tokeniser, which `metrics.ptb_words` follows; the default, `metrics.words`,
knows other scripts too, and agrees with it where both split alike. As there, 10 is the maximum; papers write 1.491 as
149.1.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from paligax.metrics.text import check_pairs, words

ORDERS = 4  # n-grams of 1 to 4 words
_SIGMA = 6.0  # of the length penalty

Tokenize = Callable[[str], list[str]]


def ngrams(tokens: Sequence[str]) -> collections.Counter:
    return collections.Counter(
        tuple(tokens[i : i + n]) for n in range(1, ORDERS + 1) for i in range(len(tokens) - n + 1)
    )


@dataclasses.dataclass(frozen=True)
class DocumentFrequency:
    """In how many images' references each n-gram occurs: what makes a word rare.

    Attributes:
      counts: n-gram as a tuple of words → number of images.
      images: number of all images.
    """

    counts: Mapping[tuple[str, ...], int]
    images: int

    @classmethod
    def of(cls, references: Sequence[Collection[str]], tokenize: Tokenize = words) -> "DocumentFrequency":
        """Counted over images' references, e.g. of the training split."""
        return cls._of([[ngrams(tokenize(text)) for text in texts] for texts in references])

    @classmethod
    def _of(cls, counted: Sequence[Sequence[collections.Counter]]) -> "DocumentFrequency":
        counts = collections.Counter(ngram for texts in counted for ngram in set().union(*texts))
        return cls(counts, len(counted))


class _Vector:
    """The tf-idf weights of one caption's n-grams, by order."""

    def __init__(self, counts: collections.Counter, frequency: DocumentFrequency):
        self.weights: list[dict] = [{} for _ in range(ORDERS)]
        log_images = math.log(frequency.images)
        for ngram, count in counts.items():
            weight = log_images - math.log(max(1, frequency.counts.get(ngram, 0)))
            self.weights[len(ngram) - 1][ngram] = count * weight
        self.norms = [math.sqrt(sum(w * w for w in weights.values())) for weights in self.weights]
        # The official scorer's length is the number of word pairs.
        self.length = sum(count for ngram, count in counts.items() if len(ngram) == 2)

    def similarity(self, reference: "_Vector") -> float:
        penalty = math.exp(-((self.length - reference.length) ** 2) / (2 * _SIGMA**2))
        total = 0.0
        for n in range(ORDERS):
            dot = sum(
                min(w, reference.weights[n][ngram]) * reference.weights[n][ngram]
                for ngram, w in self.weights[n].items()
                if ngram in reference.weights[n]
            )
            if self.norms[n] and reference.norms[n]:
                dot /= self.norms[n] * reference.norms[n]
            total += dot * penalty
        return total / ORDERS


def cider_scores(
    references: Sequence[Collection[str]],
    predictions: Sequence[str],
    tokenize: Tokenize = words,
    frequency: DocumentFrequency | None = None,
) -> np.ndarray:
    """float64[N]: CIDEr-D of each prediction, in [0, 10].

    A set of one example scores 0: every word is in every document. Texts of fewer than four words have no longer
    n-grams, so that even a perfect one stays below 10.

    Args:
      references, predictions: all right captions of each image, and one caption each.
      tokenize: text → words.
      frequency: made with the same `tokenize`; None: that of the references given.
    """
    check_pairs(references, predictions)
    counted = [[ngrams(tokenize(text)) for text in texts] for texts in references]
    frequency = frequency or DocumentFrequency._of(counted)
    scores = []
    for texts, prediction in zip(counted, predictions, strict=True):
        hypothesis = _Vector(ngrams(tokenize(prediction)), frequency)
        scores.append(10 * np.mean([hypothesis.similarity(_Vector(t, frequency)) for t in texts] or [0.0]))
    return np.asarray(scores)


def cider(
    references: Sequence[Collection[str]],
    predictions: Sequence[str],
    tokenize: Tokenize = words,
    frequency: DocumentFrequency | None = None,
) -> float:
    """Mean of `cider_scores`."""
    return float(cider_scores(references, predictions, tokenize, frequency).mean())
