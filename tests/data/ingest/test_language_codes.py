import pytest

from paligax.data.ingest import language_codes
from paligax.data.ingest.language_codes import UNKNOWN, normalise


@pytest.mark.parametrize(
    "code, expected",
    [
        ("en", "en"),
        (" EN ", "en"),
        ("iw", "he"),
        ("in", "id"),
        ("ji", "yi"),
        ("jw", "jv"),
        ("zh-cn", "zh"),
        ("zh_TW", "zh"),
        ("zh-Hant-HK", "zh"),
        ("cmn", "zh"),
        ("yue", "yue"),
        ("nb", "no"),
        ("nn", "no"),
        ("nob", "no"),
        ("pt-BR", "pt"),
        ("eng", "en"),
        ("deu", "de"),
        ("ger", "de"),
        ("hi-Latn", "hi"),
        ("tl", "fil"),
        ("fil", "fil"),
        ("quz", "quz"),
        ("haw", "haw"),
        ("arz", "ar"),
    ],
)
def test_one_code_a_language(code, expected):
    assert normalise(code) == expected
    assert normalise(expected) == expected


@pytest.mark.parametrize(
    "code", ["", "und", "unk", "UND", "zxx", "mul", "english", "e", "12", "en en", "en\0", "日本", "x" * 10_000]
)
def test_what_is_no_code_is_undetermined(code):
    assert normalise(code) == UNKNOWN


def test_the_table_of_three_letters_is_iso_639_2s():
    """Every line one three-letter code; 20 languages have a bibliographic code beside the other."""
    three = language_codes._THREE.split()
    assert all(len(code) == 3 for code in three[::2]) and all(len(code) == 2 for code in three[1::2])
    assert len(set(three[::2])) == len(three[::2])
    assert len(three) // 2 - len(set(three[1::2])) == 20


def test_no_code_is_led_to_one_that_is_led_on():
    assert all(normalise(code) == code for code in language_codes._SAME.values())
