"""The caption scorer's tokens: what its own tokeniser gave for the same lines, in cases/ptb.json."""

import json
import pathlib

import pytest

from paligax.metrics import ptb_words

LINES = json.loads((pathlib.Path(__file__).parent / "cases" / "ptb.json").read_text(encoding="utf-8"))["lines"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("A man's dog isn't on the (red) couch.", "a man 's dog is n't on the -lrb- red -rrb- couch"),
        ("Wait... what?! No -- it's 5:30 p.m., 50% off", "wait what ?! no it 's 5:30 p.m. 50 % off"),
        ("cannot gonna 'tis o'clock y'all", "can not gon na 't is o'clock y' all"),
        ("No. 5 of no. people on Main St.", "no. 5 of no people on main st."),
        ("dog😀cat £5 ½", "dog cat # 5 1/2"),
        ("", ""),
        (" \t.\n", ""),
    ],
)
def test_by_hand(text, expected):
    assert ptb_words(text) == expected.split()


@pytest.mark.parametrize("line, expected", LINES)
def test_equals_the_official_tokeniser(line, expected):
    assert ptb_words(line) == expected.split()


def test_any_text_is_split():
    """Symbols, controls, marks and letters of all scripts, and nothing but quotation marks."""
    for first in range(1, 0x11000, 64):
        text = "".join(chr(c) for c in range(first, first + 64) if not 0xD800 <= c < 0xE000)
        for word in ptb_words(text) + ptb_words(f"a{text}'s"):
            assert word and not any(c.isspace() for c in word)
    assert ptb_words("'" * 1000) == []
    assert ptb_words("a" * 10000) == ["a" * 10000]
