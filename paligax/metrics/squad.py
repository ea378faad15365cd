"""Exact match and F1 of answers as SQuAD v1.1 scores them (arXiv 1606.05250), and MLQA in other languages (1910.07475).

XQuAD and TyDi QA's gold passage task are scored by `squad` in the published figures of mT5 and XTREME, whatever the
language; MLQA by `mlqa`. Values are shares in [0, 1]; the scorers print them times 100.
"""

import collections
import difflib
import re
import string
import unicodedata
from collections.abc import Callable, Collection, Sequence

import numpy as np

from paligax.metrics.text import UNSPACED, check_pairs

# Article-like words that MLQA's scorer drops; its six languages written with blanks, and Chinese.
_ARTICLES = {
    "ar": "ال",  # wherever these two letters stand, also inside a word
    "de": r"\b(?:ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "en": r"\b(?:a|an|the)\b",
    "es": r"\b(?:un|una|unos|unas|el|la|los|las)\b",
    "hi": None,
    "vi": r"\b(?:của|là|cái|chiếc|những)\b",
    "zh": None,
}
# Languages of XQuAD and TyDi QA that MLQA's scorer refuses. Ours scores them with nothing dropped.
_WITHOUT_ARTICLES = ("bn", "el", "fi", "id", "ja", "ko", "ro", "ru", "sw", "te", "th", "tr")
LANGUAGES = tuple(sorted([*_ARTICLES, *_WITHOUT_ARTICLES]))
# Characters that are words of their own; Chinese with the range that MLQA's scorer has.
_SINGLE = {"zh": "[\u4e00-\u9fa5]"} | dict.fromkeys(
    ("ja", "th"), "[" + "".join(f"{first}-{last}" for first, last in UNSPACED) + "]"
)


def normalise_squad(text: str) -> str:
    """Lower case without ASCII punctuation, English articles and repeated blanks: "The U.S. Army!" → "us army"."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(_ARTICLES["en"], " ", text).split())


def normalise_mlqa(text: str, language: str) -> str:
    """As `normalise_squad`, with all of Unicode's punctuation and the language's articles; words of one blank between.

    Chinese characters (and Japanese and Thai ones) are words of their own.
    """
    if language not in LANGUAGES:
        near = difflib.get_close_matches(language, LANGUAGES, 1, 0.4)
        raise ValueError(
            f"No rules for answers in language {language!r}{f' (is it {near[0]!r}?)' if near else ''}; there are rules "
            f"for {', '.join(LANGUAGES)}. paligax.metrics.squad scores every language by the English rules."
        )
    text = "".join(c for c in text.lower() if c not in string.punctuation and unicodedata.category(c)[0] != "P")
    if articles := _ARTICLES.get(language):
        text = re.sub(articles, " ", text)
    if single := _SINGLE.get(language):
        text = re.sub(single, r" \g<0> ", text)
    return " ".join(text.split())


def _f1(reference: str, prediction: str) -> float:
    """F1 of the words of two normalised texts; 0 where they share none, also where both are empty."""
    r, p = collections.Counter(reference.split()), collections.Counter(prediction.split())
    same = (r & p).total()
    return 2 * same / (r.total() + p.total()) if same else 0.0


def _scored(
    references: Sequence[Collection[str]], predictions: Sequence[str], normalise: Callable[[str], str]
) -> dict[str, float]:
    check_pairs(references, predictions)
    exact, f1 = [], []
    for texts, prediction in zip(references, predictions, strict=True):
        prediction = normalise(prediction)
        texts = [normalise(text) for text in texts]
        exact.append(prediction in texts)
        f1.append(max((_f1(text, prediction) for text in texts), default=0.0))
    return {"squad_exact_match": float(np.mean(exact)), "squad_f1": float(np.mean(f1))}


def squad(targets: Sequence[Collection[str]], predictions: Sequence[str]) -> dict[str, float]:
    """{"squad_exact_match", "squad_f1"}: means of the best over each question's right answers (targets), in [0, 1]."""
    return _scored(targets, predictions, normalise_squad)


def mlqa(targets: Sequence[Collection[str]], predictions: Sequence[str], language: str) -> dict[str, float]:
    """As `squad`, by the rules of the answers' language. Raises ValueError for one outside LANGUAGES."""
    return _scored(targets, predictions, lambda text: normalise_mlqa(text, language))
