"""Scores of generated text. `references` holds all right texts of each example, `predictions` one text each."""

import collections
import re
import unicodedata
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence

import numpy as np

# Scripts written without spaces between words: every character counts as a word.
UNSPACED = (
    ("\u0e01", "\u0e3a"), ("\u0e40", "\u0e4e"),  # Thai
    ("\u0e80", "\u0eff"), ("\u1000", "\u109f"), ("\u1780", "\u17ff"),  # Lao, Burmese, Khmer
    ("\u3005", "\u3007"), ("\u3041", "\u30ff"), ("\u31f0", "\u31ff"),  # kana
    ("\u3400", "\u4dbf"), ("\u4e00", "\u9fff"), ("\uf900", "\ufaff"), ("\U00020000", "\U0003134f"),  # Han
)  # fmt: skip


def normalise(text: str) -> str:
    """NFKC, case folded, blanks collapsed: what texts are compared as. "  A\u00a0Dog " → "a dog"."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> list[str]:
    """Normalised words without punctuation; in scripts without spaces (Chinese, Japanese, Thai, …) characters.

    "Two dogs, 3.5 m" → ["two", "dogs", "3", "5", "m"]; "赤い car" → ["赤", "い", "car"].
    """
    found: list[str] = []
    open_word = False
    for character in normalise(text):
        kind = unicodedata.category(character)[0]
        if kind == "M" and found:  # marks belong to the letter before them
            found[-1] += character
        elif kind not in "LMN":
            open_word = False
        elif any(first <= character <= last for first, last in UNSPACED):
            found.append(character)
            open_word = False
        elif open_word:
            found[-1] += character
        else:
            found.append(character)
            open_word = True
    return found


def check_pairs(references: Sequence, predictions: Sequence) -> None:
    """Raises ValueError unless there are as many targets as predictions, and at least one."""
    if len(references) != len(predictions) or not len(predictions):
        raise ValueError(
            f"Metrics need as many targets as predictions and at least one; got {len(references)} targets and "
            f"{len(predictions)} predictions."
        )


def exact_match(references: Sequence[Collection[str]], predictions: Sequence[str]) -> float:
    """Share of the predictions that equal any of their references, both normalised."""
    check_pairs(references, predictions)
    hits = [normalise(p) in {normalise(r) for r in rs} for rs, p in zip(references, predictions, strict=True)]
    return float(np.mean(hits))


def list_match(targets: Sequence[str], predictions: Sequence[str], separator: str = ",") -> float:
    """Share of the predictions that name the same things as their targets, in any order: "a, b" equals "b, a"."""
    check_pairs(targets, predictions)

    def items(text: str) -> collections.Counter:
        return collections.Counter(item for piece in text.split(separator) if (item := normalise(piece)))

    return float(np.mean([items(t) == items(p) for t, p in zip(targets, predictions, strict=True)]))


def _f1(reference: str, prediction: str) -> float:
    r, p = collections.Counter(words(reference)), collections.Counter(words(prediction))
    if not r or not p:
        return float(r == p)
    return 2 * (r & p).total() / (r.total() + p.total())


def token_f1(references: Sequence[Collection[str]], predictions: Sequence[str]) -> float:
    """Mean F1 of the words shared with the best reference, as SQuAD scores answers."""
    check_pairs(references, predictions)
    best = [max((_f1(r, p) for r in rs), default=0.0) for rs, p in zip(references, predictions, strict=True)]
    return float(np.mean(best))


def token_accuracy(targets: Sequence[Sequence[int]], predictions: Sequence[Sequence[int]]) -> float:
    """Share of all target tokens that stand in the prediction at the same position; missing positions are wrong."""
    check_pairs(targets, predictions)
    right = sum(sum(a == b for a, b in zip(t, p, strict=False)) for t, p in zip(targets, predictions, strict=True))
    return right / max(sum(len(t) for t in targets), 1)


def _spans(tokens: Sequence[int], sentinels: Collection[int]) -> Iterator[tuple[int, list[int]]]:
    """(sentinel, the tokens behind it), in order."""
    span: tuple[int, list[int]] | None = None
    for token in tokens:
        if token in sentinels:
            if span is not None:
                yield span
            span = (token, [])
        elif span is not None:
            span[1].append(token)
    if span is not None:
        yield span


def span_accuracy(
    targets: Sequence[Sequence[int]], predictions: Sequence[Sequence[int]], sentinels: Collection[int]
) -> float:
    """Share of all masked-out spans that the prediction fills exactly; a span is found by its sentinel."""
    check_pairs(targets, predictions)
    hits = total = 0
    for target, prediction in zip(targets, predictions, strict=True):
        given: dict[int, list[int]] = {}
        for sentinel, span in _spans(prediction, sentinels):
            given.setdefault(sentinel, span)
        for sentinel, span in _spans(target, sentinels):
            hits += given.get(sentinel) == span
            total += 1
    return hits / max(total, 1)


def _distances(target: Sequence[Hashable], prediction: Sequence[Hashable]) -> np.ndarray:
    """int64[len(target) + 1, len(prediction) + 1]: edit distances between all beginnings (Levenshtein)."""
    numbers: dict[Hashable, int] = {}
    target, prediction = (
        np.array([numbers.setdefault(item, len(numbers)) for item in items], np.int64) for items in (target, prediction)
    )
    steps = np.arange(len(prediction) + 1)
    table = np.empty((len(target) + 1, len(prediction) + 1), np.int64)
    table[0] = steps
    for i, item in enumerate(target, 1):
        row = table[i - 1] + 1  # item left out
        row[1:] = np.minimum(row[1:], table[i - 1, :-1] + (prediction != item))  # taken, or replaced
        table[i] = np.minimum.accumulate(row - steps) + steps  # put in: min over k ≤ j of row[k] + j - k
    return table


def edit_distance(target: Sequence[Hashable], prediction: Sequence[Hashable]) -> int:
    """Least number of items (letters of texts) left out, put in or replaced that makes one of the other."""
    return int(_distances(target, prediction)[-1, -1])


def _errors_at(target: str, prediction: str) -> np.ndarray:
    """int64[len(target)]: edits at each target letter along one best alignment; letters put in count for the letter
    before them (the first, where there is none). Of equally good alignments: replaced before left out before put in."""
    table = _distances(target, prediction)
    errors = np.zeros(len(target), np.int64)
    i, j = len(target), len(prediction)
    while i or j:
        here = table[i, j]
        if i and j and here == table[i - 1, j - 1] + (target[i - 1] != prediction[j - 1]):
            i, j = i - 1, j - 1
            errors[i] += target[i] != prediction[j]
        elif i and here == table[i - 1, j] + 1:
            i -= 1
            errors[i] += 1
        else:
            j -= 1
            errors[max(i - 1, 0)] += 1
    return errors


def character_error_rate(
    targets: Sequence[str], predictions: Sequence[str], unseen_words: Collection[str] = ()
) -> Mapping[str, float]:
    """Edits over target characters, summed over the set (so it may exceed 1); case counts, blanks are collapsed.

    Args:
      targets, predictions: the right and the generated texts.
      unseen_words: the words that never occur in training.

    Returns:
      {"character_error_rate"} and, where unseen_words are given, the same apart for the characters of words seen in
      training ("…_seen") and never seen ("…_unseen"), as far as the set has such words. A blank belongs to the word
      before it, so the edits of both kinds add up to the whole.
    """
    check_pairs(targets, predictions)
    unseen_words = {unicodedata.normalize("NFC", word) for word in unseen_words}
    edits, characters = collections.Counter(), collections.Counter()
    for target, prediction in zip(targets, predictions, strict=True):
        target, prediction = (" ".join(unicodedata.normalize("NFC", text).split()) for text in (target, prediction))
        if not target:
            edits["all"] += len(prediction)
            continue
        errors = _errors_at(target, prediction)
        for match in re.finditer(r"\S+ ?", target):
            kind = "unseen" if match.group().strip() in unseen_words else "seen"
            for key in ("all", kind):
                edits[key] += int(errors[match.start() : match.end()].sum())
                characters[key] += len(match.group())
    rates = {"character_error_rate": edits["all"] / max(characters["all"], 1)}
    if unseen_words:
        for kind in ("seen", "unseen"):
            if characters[kind]:
                rates[f"character_error_rate_{kind}"] = edits[kind] / characters[kind]
    return rates


def word_error_rate(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """{"word_error_rate": edited over target words}, summed over the set, so it may exceed 1.

    Words are what blanks separate, in Unicode's composed form; case and punctuation count. In scripts without blanks a
    whole text is one word: take `character_error_rate` there.
    """
    check_pairs(targets, predictions)
    edits = words = 0
    for target, prediction in zip(targets, predictions, strict=True):
        target, prediction = (unicodedata.normalize("NFC", text).split() for text in (target, prediction))
        edits += edit_distance(target, prediction)
        words += len(target)
    return {"word_error_rate": edits / max(words, 1)}
