"""The table of languages, and what counts as a word in each."""

import unicodedata

import pytest

from paligax.data.runtime import tf
from tasks.captioning import words_of
from tasks.languages import CC3M_35L, LANGUAGES, XM3600, codes, language, normalise

MT5 = (
    "af am ar az be bg bn ca ceb co cs cy da de el en eo es et eu fa fi fil fr fy ga gd gl gu ha haw hi hmn ht hu hy "
    "id ig is it he ja jv ka kk km kn ko ku ky la lb lo lt lv mg mi mk ml mn mr ms mt my ne nl no ny pa pl ps pt ro "
    "ru sd si sk sl sm sn so sq sr st su sv sw ta te tg th tr uk ur uz vi xh yi yo zh zu"
).split()


def test_the_table():
    assert len(LANGUAGES) == 109 and len(MT5) == 101 and set(MT5) < set(LANGUAGES)
    assert len(CC3M_35L) == 35 and len(XM3600) == 36 and set(XM3600) - set(CC3M_35L) == {"quz"}
    assert set(XM3600) <= set(LANGUAGES)
    assert (LANGUAGES["haw"].name, LANGUAGES["ht"].name, LANGUAGES["my"].name) == (
        "Hawaiian",
        "Haitian Creole",
        "Burmese",
    )
    assert {code for code, entry in LANGUAGES.items() if not entry.spaced} == {"ja", "km", "lo", "my", "th", "zh"}
    assert all(code == entry.code == normalise(code) and entry.name for code, entry in LANGUAGES.items())


@pytest.mark.parametrize(
    "given, code",
    [
        ("iw", "he"), ("in", "id"), ("nb", "no"), ("nn", "no"), ("zh-CN", "zh"), ("zh_TW", "zh"), ("zh-Hant-TW", "zh"),
        ("cmn", "zh"), ("tl", "fil"), ("EN", "en"), ("pt-BR", "pt"), ("bg-Latn", "bg"), ("qu", "quz"), ("jw", "jv"),
        ("deu", "de"), ("", "und"), ("und", "und"), ("br", "br"),
    ],
)  # fmt: skip
def test_codes_are_brought_to_one_form(given, code):
    assert normalise(given) == code


@pytest.mark.parametrize(
    "given, hint",
    [
        ("enn", "'en' (English)"),
        ("german", "'de' (German)"),
        ("Japanes", "'ja' (Japanese)"),
        ("cebu", "'ceb' (Cebuano)"),
    ],
)
def test_unknown_languages_are_told_with_the_nearest(given, hint):
    with pytest.raises(ValueError) as caught:
        language(given)
    assert f"No language {given!r}" in str(caught.value) and f"Did you mean {hint}?" in str(caught.value)


def test_lists_of_languages():
    assert codes(("en", "iw", "he")) == ("en", "he")
    assert codes("en") == ("en",)
    assert codes("cc3m_35l") == CC3M_35L and len(codes("all")) == 109
    with pytest.raises(ValueError, match="'qqq'"):
        codes(("en", "qqq"))


# Texts as people write them, and where they may be cut.
WORDS = [
    ("a red 赤い car", ["a ", "red ", "赤", "い ", "car"]),
    ("one", ["one"]),
    ("don't  stop", ["don't  ", "stop"]),
    ("two\u00a0dogs\u200bran", ["two\u00a0", "dogs\u200b", "ran"]),  # blanks that aren't ASCII
    # no blanks between words: a character with its marks, and the punctuation at it
    ("แมวน้ำ", ["แ", "ม", "ว", "น้ำ"]),
    ("ນ້ຳດື່ມ", ["ນ້ຳ", "ດື່", "ມ"]),
    ("ខ្មែរ។ ឆ្កែ", ["ខ្មែ", "រ។ ", "ឆ្កែ"]),  # what is written below stays below
    ("သတ္တဝါ။", ["သ", "တ္တ", "ဝါ။"]),
    ("我爱猫(天安门)。", ["我", "爱", "猫", "(天", "安", "门)。"]),
    ("「赤い猫」、カード", ["「赤", "い", "猫」、", "カ", "ー", "ド"]),
    ("猫\u3000犬", ["猫\u3000", "犬"]),
    ("ｶｰﾄﾞ", ["ｶ", "ｰ", "ﾄ", "ﾞ"]),  # narrow kana
    ("100円", ["100", "円"]),
    # syllables end with a tsheg
    ("བཀྲ་ཤིས་བདེ་ལེགས།", ["བཀྲ་", "ཤིས་", "བདེ་", "ལེགས།"]),
    # blanks
    ("빨간 차", ["빨간 ", "차"]),
    ("con mèo đỏ", ["con ", "mèo ", "đỏ"]),
    (unicodedata.normalize("NFD", "con mèo đỏ"), [unicodedata.normalize("NFD", w) for w in ("con ", "mèo ", "đỏ")]),
    ("कुत्ता घास", ["कुत्ता ", "घास"]),
    ("قطة حمراء", ["قطة ", "حمراء"]),
    ("my 👩‍👩‍👧 family", ["my ", "👩‍👩‍👧 ", "family"]),
    ("猫👩‍👩‍👧犬", ["猫", "👩‍👩‍👧", "犬"]),
    ("", []),
    (" \u3000", []),
]


@pytest.mark.parametrize("caption, words", WORDS)
def test_words_of(caption, words):
    assert [word.decode() for word in words_of(tf.constant(caption)).numpy()] == words
    assert "".join(words) == caption or not words


@pytest.mark.parametrize(
    "code, caption, count",
    [("zh", "红猫", 2), ("ja", "ねこ", 2), ("th", "กา", 2), ("km", "គោ", 1), ("lo", "ກາ", 2), ("my", "ငါး", 1)],
)
def test_every_language_without_blanks_is_cut_into_characters(code, caption, count):
    assert not LANGUAGES[code].spaced and len(words_of(tf.constant(caption)).numpy()) == count
