"""BLEU and ROUGE-L of captions as the COCO caption scorer (pycocoevalcap) computes them.

BLEU: Papineni et al., ACL 2002. ROUGE-L: Lin, ACL 2004. `coco_captions` splits English as that scorer does
(`metrics.ptb_words`); METEOR and SPICE need Java and are left to it.
"""

import math
from collections.abc import Collection, Sequence

import numpy as np

from paligax.metrics.cider import ORDERS, Tokenize, cider, ngrams
from paligax.metrics.ptb import ptb_words
from paligax.metrics.text import check_pairs, words

_TINY, _SMALL = 1e-15, 1e-9  # added to numerators and denominators, as there
_BETA = 1.2  # ROUGE-L's weight of recall


def _check_references(references: Sequence[Collection[str]]) -> None:
    for i, texts in enumerate(references):
        if not texts:
            raise ValueError(f"Example {i} has no reference caption; BLEU and ROUGE-L need one each.")


def bleu(references: Sequence[Collection[str]], predictions: Sequence[str], tokenize: Tokenize = words) -> np.ndarray:
    """float64[4]: BLEU-1 to BLEU-4 of the whole set, in [0, 1].

    n-grams are clipped at the most that one reference has; a caption's reference length is the nearest to its own, of
    equally near ones the shorter. Raises ValueError for an example without references.
    """
    check_pairs(references, predictions)
    _check_references(references)
    right, given = np.zeros(ORDERS), np.zeros(ORDERS)
    length = wanted = 0
    for texts, prediction in zip(references, predictions, strict=True):
        tokens, alternatives = tokenize(prediction), [tokenize(text) for text in texts]
        length += len(tokens)
        wanted += min((abs(len(other) - len(tokens)), len(other)) for other in alternatives)[1]
        most = ngrams([])
        for other in alternatives:
            most |= ngrams(other)
        for ngram, count in ngrams(tokens).items():
            given[len(ngram) - 1] += count
            right[len(ngram) - 1] += min(count, most[ngram])
    precision = np.cumprod((right + _TINY) / (given + _SMALL)) ** (1 / np.arange(1, ORDERS + 1))
    ratio = (length + _TINY) / (wanted + _SMALL)
    return precision * (math.exp(1 - 1 / ratio) if ratio < 1 else 1.0)


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, by Hyyrö's bit-parallel recurrence: one bit for each word of a."""
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    everywhere = (1 << len(a)) - 1
    rest = everywhere
    for word in b:
        hit = rest & places.get(word, 0)
        rest = (rest + hit | rest - hit) & everywhere
    return len(a) - rest.bit_count()


def rouge_l(references: Sequence[Collection[str]], predictions: Sequence[str], tokenize: Tokenize = words) -> float:
    """Mean F of the longest common subsequence, in [0, 1].

    Precision and recall are each the best over the references, so that they may come of different ones, and recall
    weighs 1.44 times as much. Raises ValueError for an example without references.
    """
    check_pairs(references, predictions)
    _check_references(references)
    scores = []
    for texts, prediction in zip(references, predictions, strict=True):
        tokens = tokenize(prediction) or [""]  # an empty caption is one empty word there
        alternatives = [tokenize(text) or [""] for text in texts]
        common = [_common(tokens, other) for other in alternatives]
        precision = max(c / len(tokens) for c in common)
        recall = max(c / len(other) for c, other in zip(common, alternatives, strict=True))
        score = (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision) if precision else 0.0
        scores.append(score)
    return float(np.mean(scores))


def coco_captions(targets: Sequence[Collection[str]], predictions: Sequence[str]) -> dict[str, float]:
    """{"cider", "bleu_1" … "bleu_4", "rouge_l"}: English captions split and scored as the COCO caption scorer does.

    CIDEr-D is in [0, 10], the others in [0, 1]. `targets` are all right captions of each image. Raises ValueError where
    one has none.
    """
    split_targets = [[" ".join(ptb_words(text)) for text in texts] for texts in targets]
    split = (split_targets, [" ".join(ptb_words(text)) for text in predictions], str.split)
    return {
        "cider": cider(*split),
        **{f"bleu_{n}": float(b) for n, b in enumerate(bleu(*split), 1)},
        "rouge_l": rouge_l(*split),
    }
