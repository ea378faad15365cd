import zlib

import numpy as np
import pytest

from paligax.data import records
from paligax.data.runtime import tf

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
    "53de0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
)
FULL = {
    "id": "a",
    "image": PNG,
    "alt_text": [{"lang": "en", "text": "a cat"}, {"lang": "de", "text": "eine Katze"}],
    "ocr": [{"lang": "en", "text": "stop", "bbox": [0.0, 0.1, 0.2, 0.3]}],
    "objects": [
        {"label": "cat", "bbox": [0.0, 0.0, 0.5, 0.5], "confidence": 0.5, "verified_absent": False},
        {"label": "dog", "verified_absent": True, "confidence": 1.0},
    ],
    "qa": [{"lang": "en", "question": "what?", "answer": "cat"}],
    "score": 0.25,
    "source": "test",
    "labels": ["animal"],
}
DICT_OF_LISTS = {**FULL, "qa": {"lang": ["en"], "question": ["what?"], "answer": ["cat"]}}


@pytest.mark.parametrize("record", [FULL, DICT_OF_LISTS])
def test_encode_and_decode_agree(record):
    flat = records.decode(records.encode(record))
    assert flat["image"] == PNG and flat["id"] == "a" and flat["text"] == "" and flat["score"] == 0.25
    assert flat["alt_text/lang"] == ["en", "de"] and flat["qa/answer"] == ["cat"]
    assert flat["objects/verified_absent"] == [False, True]
    np.testing.assert_allclose(flat["objects/bbox"][0], [0, 0, 0.5, 0.5])
    assert np.isnan(flat["objects/bbox"][1]).all()
    assert records.check(flat) == records.check(record) == ""


def test_the_graph_reads_what_was_written():
    example = records.parse(tf.constant(records.encode(FULL)))
    assert set(example) == {*records.SCALARS, *records.SEQUENCES}
    assert example["image"].numpy() == PNG
    assert example["alt_text/text"].numpy().tolist() == [b"a cat", b"eine Katze"]
    assert example["ocr/bbox"].shape == (1, 4) and example["objects/verified_absent"].dtype == tf.bool


def test_missing_fields_are_empty():
    example = records.parse(tf.train.Example().SerializeToString())
    assert example["image"].numpy() == b"" and np.isnan(example["score"].numpy())
    assert example["ocr/bbox"].shape == (0, 4) and example["qa/answer"].shape == (0,)
    assert records.decode(b"")["qa/answer"] == []


def test_tfds_writes_the_same_to_the_parser():
    from tensorflow_datasets.core import example_serializer

    features = records.features()
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    for record in (FULL, {"id": "t", "image": b"", "text": "once"}):
        full = {key: value for key, value in records.flatten(record).items() if "/" not in key}
        del full["image_crc"]
        for group, names in records.GROUPS.items():
            flat = records.flatten(record)
            full[group] = {name: flat[f"{group}/{name}"] for name in names}
        theirs = records.parse(serializer.serialize_example(features.encode_example(full)))
        ours = records.parse(records.encode(record))
        assert theirs.pop("image_crc") == -1  # builders don't take it
        assert ours.pop("image_crc") == (zlib.crc32(record["image"]) if record["image"] else -1)
        for key, value in ours.items():
            np.testing.assert_array_equal(value.numpy(), theirs[key].numpy(), err_msg=key)


def test_unknown_fields_are_told_with_the_nearest_name():
    with pytest.raises(ValueError, match="'alt_texts'; did you mean 'alt_text'"):
        records.encode({"alt_texts": []})
    with pytest.raises(ValueError, match="did you mean 'qa/question'"):
        records.encode({"qa": [{"questions": "?"}]})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image": b"GIF89a..."}, "not a JPEG or PNG"),
        ({"image": PNG[:40]}, "broken image"),
        ({"qa/answer": []}, "uneven groups"),
        ({"ocr/bbox": np.array([[0, 0, 2, 1]])}, "bad box"),
        ({"ocr/bbox": np.array([[0.5, 0, 0.1, 1]])}, "bad box"),
        ({"image": b"", "text": ""}, "empty record"),
        ({"image": b"", "text": "words"}, ""),
    ],
)
def test_check_says_why(change, reason):
    assert records.check({**records.decode(records.encode(FULL)), **change}) == reason


def test_items_count_index_entries():
    flat = records.decode(records.encode(FULL))
    counts = {kind: count(flat) for kind, count in records.ITEMS.items()}
    assert counts == {
        "record": 1, "image": 1, "alt_text": 2, "ocr": 1, "ocr_lang": 1,
        "qa": 1, "objects": 1, "detection": 1, "labels": 1, "text": 0,
        "alt_text:en": 1, "ocr_lang:en": 1, "qa:en": 1, "text:en": 0,
    }  # fmt: skip
    text_only = records.decode(records.encode({"text": "words"}))
    assert {kind for kind, count in records.ITEMS.items() if count(text_only)} == {"record", "text"}


def test_items_of_a_language():
    flat = records.decode(records.encode(FULL))
    assert records.items() == records.ITEMS
    more = records.items(("de", "en", "zh-Hant"))
    assert set(more) - set(records.ITEMS) == {
        f"{kind}:{language}" for kind in ("alt_text", "ocr_lang", "qa", "text") for language in ("de", "zh-Hant")
    }
    assert [more[kind](flat) for kind in ("alt_text:de", "qa:de", "ocr_lang:de", "text:de")] == [1, 0, 0, 0]
    twice = {**FULL, "ocr": [{"lang": lang, "text": "x"} for lang in ("fr", "en", "fr", "")]}
    assert records.items(("fr",))["ocr_lang:fr"](records.decode(records.encode(twice))) == 1
    text = records.decode(records.encode({"text": "Worte", "text_lang": "de"}))
    assert [more[kind](text) for kind in ("text", "text:de", "text:en")] == [1, 1, 0]
    counts = dict(zip(records.items(("de",)), records.count_items(flat, ("de",)), strict=True))
    assert counts["alt_text"] == 2 and counts["alt_text:en"] == counts["alt_text:de"] == 1
    assert records.items_in("qa", ("de", "fr", "de")) == "qa:de+fr"
    with pytest.raises(ValueError, match="'objects' have no language; those of alt_text, ocr_lang, qa, text"):
        records.items_in("objects", ("de",))
    with pytest.raises(ValueError, match="'../x' is no language code"):
        records.items(("../x",))


def test_keep_languages_leaves_groups_in_step():
    langs = {**FULL, "qa": [{"lang": lang, "question": lang + "?", "answer": "a"} for lang in ("de", "en", "fr", "de")]}
    (kept,) = records.keep_languages(("de", "fr"))(tf.data.Dataset.from_tensors(example(0, langs)))
    assert kept["qa/question"].numpy().tolist() == [b"de?", b"fr?", b"de?"]
    assert kept["alt_text/text"].numpy().tolist() == [b"eine Katze"]
    assert kept["ocr/bbox"].shape == (0, 4) and kept["objects/label"].shape == (2,)
    assert kept["skip"].numpy() == b"" and records.pick(kept, "qa")["qa/lang"].numpy() == b"de"


def example(item, record=FULL):
    return {**records.parse(tf.constant(records.encode(record))), "item": tf.constant(item, tf.int64), "skip": ""}


def test_pick_takes_the_entrys_item():
    picked = records.pick(example(1), "objects")
    assert picked["objects/label"].numpy() == b"dog" and np.isnan(picked["objects/bbox"].numpy()).all()
    assert picked["skip"].numpy() == b""
    beyond = records.pick(example(5), "qa")
    assert beyond["qa/answer"].numpy() == b"" and beyond["skip"].numpy() == b"no qa"


def test_pick_language_counts_in_order_of_appearance():
    langs = {**FULL, "ocr": [{"lang": lang, "text": "x"} for lang in ("fr", "en", "fr", "", "de")]}
    assert records.ITEMS["ocr_lang"](records.decode(records.encode(langs))) == 3
    found = [records.pick_language(example(item, langs), "ocr") for item in range(4)]
    assert [lang.numpy() for _, lang in found] == [b"fr", b"en", b"de", b""]
    assert [e["skip"].numpy() for e, _ in found] == [b"", b"", b"", b"no ocr"]


def test_the_first_reason_to_skip_stays():
    first = records.skip_if({"skip": tf.constant("")}, tf.constant(True), "one")
    assert records.skip_if(first, tf.constant(True), "two")["skip"].numpy() == b"one"
    assert not records.usable(first)
    assert records.usable(records.skip_if({}, tf.constant(False), "one"))
