import pickle
import sys
import types

import pytest

from paligax.data import records
from paligax.data.ingest import languages
from paligax.data.ingest.languages import IdentifyLanguages


@pytest.fixture
def detector(monkeypatch):
    """A detector that is sure of what texts begin with, and notes what it is asked: "de:0.9 …" is German, 0.9."""
    asked = []

    def detect(text):
        asked.append(text)
        code, _, confidence = text.split(" ")[0].partition(":")
        return (code, float(confidence)) if confidence else ("en", 0.99)

    module = types.ModuleType("a_detector")
    module.detect = detect
    monkeypatch.setitem(sys.modules, "a_detector", module)
    languages._detector.cache_clear()
    yield asked
    languages._detector.cache_clear()


def stage(**changes):
    return IdentifyLanguages(detector="a_detector:detect", **changes)


def flat(**fields):
    return records.flatten(fields)


def test_missing_codes_are_found_and_others_normalised(detector):
    record = flat(
        alt_text=[
            {"lang": "", "text": "de:0.9 ein Hund auf der Bank"},
            {"lang": "iw", "text": "de:0.9 this one is known"},
            {"lang": "Klingon!", "text": "fr:0.9 le chien dort ici"},
        ],
        qa=[{"lang": "und", "question": "nb:0.8 hva er dette?", "answer": "x"}],
        text="zh-cn:0.7 a long segment",
    )
    assert stage().apply([record]) == [""]
    assert record["alt_text/lang"] == ["de", "he", "fr"]
    assert record["qa/lang"] == ["no"]
    assert record["text_lang"] == "zh"
    assert "de:0.9 this one is known" not in detector


def test_all_are_found_anew_where_asked(detector):
    record = flat(
        alt_text=[{"lang": "iw", "text": "de:0.9 ein Hund auf der Bank"}], text="it:1 una volta", text_lang="en"
    )
    stage(only_missing=False).apply([record])
    assert (record["alt_text/lang"], record["text_lang"]) == (["de"], "it")


def test_unsure_short_and_empty_texts_are_undetermined(detector):
    texts = ["de:0.39 ein Hund auf der Bank"]
    texts += ["de:0.4 ein Hund auf der Bank", "de:nan ein Hund", "short", "", "12345678901"]
    record = flat(alt_text=[{"text": text} for text in texts])
    stage().apply([record])
    assert record["alt_text/lang"] == ["und", "de", "und", "und", "und", "und"]
    assert len(detector) == 3


def test_addresses_say_no_language_and_long_texts_are_cut(detector):
    of = stage().of
    assert of("https://example.org/a/long/path www.example.org me@example.org") == "und"
    assert of("de:0.9 \n ein Hund\tauf der Bank " + "wort " * 10_000) == "de"
    assert "\n" not in detector[0] and len(detector[0]) <= 1000


def test_a_text_only_record_without_text_stays_as_it_is(detector):
    record = flat(image=b"x")
    stage().apply([record])
    assert record == flat(image=b"x") | {"score": record["score"]} and not detector


@pytest.mark.parametrize(
    "text, code",
    [("ทางออก", "th"), ("출구", "ko"), ("非常口です", "ja"), ("カフェ", "ja"), ("ﾃﾚﾋﾞ", "ja"),
     ("Έξοδος", "el"), ("ელ", "ka"),
     ("வெளியேறு", "ta"), ("ພາສາ", "lo"), ("ភាសា", "km"), ("မြန်မာ", "my"), ("Հայ", "hy"), ("🙂 ทาง 24", "th")],
)  # fmt: skip
def test_a_script_of_one_language_says_it_however_short(detector, text, code):
    assert stage().of(text) == code
    assert not detector


def test_scripts():
    assert languages.script("Hello, мир and more") == "LATIN"
    assert languages.script("東京タワー") == "JAPANESE"
    assert languages.script("出口") == "CJK"
    assert languages.script("优之良品" * 6 + "の店") == "CJK"
    assert languages.script("नमस्ते") == "DEVANAGARI"
    assert languages.script("cafe\u0301") == "LATIN"
    assert languages.script("123 !? 🙂") == ""
    assert languages.letters("出口") == 6 and languages.letters("ab 12") == 2


def test_strings_in_a_picture_are_judged_together(detector):
    """Words alone are too short; one script's words make a text. Ideographs beside kana are Japanese."""
    words = ["de:0.9", "Hund", "非常口", "auf", "トイレ", "7", "Bank", "ВЫХОД"]
    record = flat(ocr=[{"lang": "", "text": w, "bbox": [0, 0, 1, 1]} for w in words])
    stage(min_characters=6).apply([record])
    assert record["ocr/lang"] == ["de", "de", "ja", "de", "ja", "und", "de", "und"]
    assert detector == ["de:0.9 Hund auf Bank"]


def test_strings_with_a_code_keep_it(detector):
    ocr = [{"lang": "fr", "text": "de:0.9 nicht gefragt", "bbox": [0, 0, 1, 1]}]
    ocr += [{"lang": "", "text": "it:0.9 la strada"}]
    record = flat(ocr=ocr)
    stage().apply([record])
    assert record["ocr/lang"] == ["fr", "it"] and detector == ["it:0.9 la strada"]


def test_it_pickles_small_and_names_a_missing_detector(detector):
    own = stage()
    own.setup()
    assert len(pickle.dumps(own)) < 400 and pickle.loads(pickle.dumps(own)) == own
    with pytest.raises(ValueError, match="did you mean 'detect'"):
        IdentifyLanguages(detector="a_detector:detec").setup()
