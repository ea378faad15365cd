"""What can be an index entry of a data set, and how many of each kind a record has.

A kind has a name ("qa") under which the manifest counts it and a task asks for it (``RecordSource(items="qa")``).
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Record = Mapping[str, Any]  # flat, as records.decode gives it


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(v for v in values if v))  # in order of appearance, as pick_language counts them


def _questions(record: Record) -> list[str]:
    """The language of each distinct (language, question), in order of appearance, as pick_question counts them."""
    return [lang for lang, _ in dict.fromkeys(zip(record["qa/lang"], record["qa/question"], strict=False))]


# What can be an index entry: name → how many a record (as `decode` gives it) has. A task names one of these, and each
# is one training position an epoch: a record with three questions is three positions for VQA.
ITEMS: dict[str, Callable[[Record], int]] = {
    "record": lambda r: 1,
    "image": lambda r: int(bool(r["image"])),
    "alt_text": lambda r: len(r["alt_text/text"]) if r["image"] else 0,
    "alt_text_lang": lambda r: len(_distinct(r["alt_text/lang"])) if r["image"] else 0,
    "ocr": lambda r: int(bool(r["image"]) and len(r["ocr/text"]) > 0),
    "ocr_lang": lambda r: len(_distinct(r["ocr/lang"])) if r["image"] else 0,
    "qa": lambda r: len(r["qa/question"]) if r["image"] else 0,
    "question": lambda r: len(_questions(r)) if r["image"] else 0,  # asked once, however many answers it has
    "objects": lambda r: int(bool(r["image"]) and len(r["objects/label"]) > 0),
    "detection": lambda r: int(bool(r["image"]) and bool(np.any(~np.isnan(np.asarray(r["objects/bbox"]))))),
    "labels": lambda r: int(bool(r["image"]) and len(r["labels"]) + len(r["objects/label"]) > 0),
    "text": lambda r: int(bool(r["text"])),
}

# Kinds whose entries have a language: name → the language of each entry that ITEMS counts, in that order. "qa:de" is a
# kind of its own: its n-th entry is the record's n-th German question. Codes are compared as they stand in the record.
LANGUAGES_OF_ITEMS: dict[str, Callable[[Record], list[str]]] = {
    "alt_text": lambda r: list(r["alt_text/lang"]) if r["image"] else [],
    "ocr_lang": lambda r: _distinct(r["ocr/lang"]) if r["image"] else [],
    "qa": lambda r: list(r["qa/lang"]) if r["image"] else [],
    "question": lambda r: _questions(r) if r["image"] else [],
    "text": lambda r: [r["text_lang"]] if r["text"] else [],
}
ALWAYS_COUNTED = "en"
UNKNOWN_LANGUAGE = "und"


def _of_language(kind: str, language: str) -> Callable[[Record], int]:
    return lambda r: LANGUAGES_OF_ITEMS[kind](r).count(language)


@functools.cache
def items(languages: tuple[str, ...] = ()) -> dict[str, Callable[[Record], int]]:
    """ITEMS, and the kinds of these languages beside English's: "alt_text:de", "ocr_lang:de", "qa:de", "text:de", ….

    Raises ValueError for what is no language code: kinds are names of files.
    """
    for language in languages:
        if not re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", language):
            raise ValueError(
                f"{language!r} is no language code; expected one as 'de', 'fil' or 'zh', as records have it."
            )
    more = {items_in(kind, (language,)): _of_language(kind, language) for language in languages for kind in _KINDS}
    return ITEMS | more


def items_in(kind: str, languages: Sequence[str]) -> str:
    """The kind whose entries are those of ``kind`` in any of these languages: "qa:de", "qa:de+fr".

    What a kind of several languages counts is the sum of what their own count. A task over it needs
    ``keep_languages(languages)`` behind ``unpack``. Raises ValueError for a kind whose entries have no language.
    """
    if kind not in _KINDS:
        raise ValueError(f"Index entries {kind!r} have no language; those of {', '.join(_KINDS)} have one.")
    return f"{kind}:{'+'.join(dict.fromkeys(languages))}"


_KINDS = tuple(LANGUAGES_OF_ITEMS)
ITEMS |= {items_in(kind, (ALWAYS_COUNTED,)): _of_language(kind, ALWAYS_COUNTED) for kind in _KINDS}


def count_items(record: Record, languages: tuple[str, ...] = ()) -> list[int]:
    """How many index entries of each kind of ``items(languages)`` a record has, at most 65,535."""
    return [min(number(record), 65_535) for number in items(languages).values()]


def languages_in(record: Record) -> list[str]:
    """What a data set's count of languages has of a record: "alt_text de", …, "text und", with repetitions."""
    found = [
        f"{group} {lang or UNKNOWN_LANGUAGE}" for group in ("alt_text", "ocr", "qa") for lang in record[f"{group}/lang"]
    ]
    return found + [f"text {record['text_lang'] or UNKNOWN_LANGUAGE}"] * bool(record["text"])
