import pytest

from paligax.data import items, records
from tests.data.test_schema import FULL


def test_items_count_index_entries():
    flat = records.decode(records.encode(FULL))
    counts = {kind: count(flat) for kind, count in items.ITEMS.items()}
    assert counts == {
        "record": 1, "image": 1, "alt_text": 2, "alt_text_lang": 2, "ocr": 1, "ocr_lang": 1,
        "qa": 1, "question": 1, "objects": 1, "detection": 1, "labels": 1, "text": 0,
        "alt_text:en": 1, "ocr_lang:en": 1, "qa:en": 1, "question:en": 1, "text:en": 0,
    }  # fmt: skip
    text_only = records.decode(records.encode({"text": "words"}))
    assert {kind for kind, count in items.ITEMS.items() if count(text_only)} == {"record", "text"}


def test_items_of_a_language():
    flat = records.decode(records.encode(FULL))
    assert items.items() == items.ITEMS
    more = items.items(("de", "en", "zh-Hant"))
    assert set(more) - set(items.ITEMS) == {
        f"{kind}:{language}"
        for kind in ("alt_text", "ocr_lang", "qa", "question", "text")
        for language in ("de", "zh-Hant")
    }
    assert [more[kind](flat) for kind in ("alt_text:de", "qa:de", "ocr_lang:de", "text:de")] == [1, 0, 0, 0]
    twice = {**FULL, "ocr": [{"lang": lang, "text": "x"} for lang in ("fr", "en", "fr", "")]}
    assert items.items(("fr",))["ocr_lang:fr"](records.decode(records.encode(twice))) == 1
    text = records.decode(records.encode({"text": "Worte", "text_lang": "de"}))
    assert [more[kind](text) for kind in ("text", "text:de", "text:en")] == [1, 1, 0]
    counts = dict(zip(items.items(("de",)), items.count_items(flat, ("de",)), strict=True))
    assert counts["alt_text"] == 2 and counts["alt_text:en"] == counts["alt_text:de"] == 1
    assert items.items_in("qa", ("de", "fr", "de")) == "qa:de+fr"
    with pytest.raises(ValueError, match="'objects' have no language; those of .* qa, question, text have one"):
        items.items_in("objects", ("de",))
    with pytest.raises(ValueError, match="'../x' is no language code"):
        items.items(("../x",))
