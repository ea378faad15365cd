import zlib

import numpy as np
import pytest

from paligax.data import records, schema

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
    flat = schema.decode(schema.encode(record))
    assert flat["image"] == PNG and flat["id"] == "a" and flat["text"] == "" and flat["score"] == 0.25
    assert flat["alt_text/lang"] == ["en", "de"] and flat["qa/answer"] == ["cat"]
    assert flat["objects/verified_absent"] == [False, True]
    np.testing.assert_allclose(flat["objects/bbox"][0], [0, 0, 0.5, 0.5])
    assert np.isnan(flat["objects/bbox"][1]).all()
    assert schema.check(flat) == schema.check(record) == ""


def test_tfds_writes_the_same_to_the_parser():
    from tensorflow_datasets.core import example_serializer

    features = schema.features()
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    for record in (FULL, {"id": "t", "image": b"", "text": "once"}):
        full = {key: value for key, value in schema.flatten(record).items() if "/" not in key}
        del full["image_crc"]
        for group, names in schema.GROUPS.items():
            flat = schema.flatten(record)
            full[group] = {name: flat[f"{group}/{name}"] for name in names}
        theirs = records.parse(serializer.serialize_example(features.encode_example(full)))
        ours = records.parse(schema.encode(record))
        assert theirs.pop("image_crc") == -1  # builders don't take it
        assert ours.pop("image_crc") == (zlib.crc32(record["image"]) if record["image"] else -1)
        for key, value in ours.items():
            np.testing.assert_array_equal(value.numpy(), theirs[key].numpy(), err_msg=key)


def test_unknown_fields_are_told_with_the_nearest_name():
    with pytest.raises(ValueError, match="'alt_texts'; did you mean 'alt_text'"):
        schema.encode({"alt_texts": []})
    with pytest.raises(ValueError, match="did you mean 'qa/question'"):
        schema.encode({"qa": [{"questions": "?"}]})


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
    assert schema.check({**schema.decode(schema.encode(FULL)), **change}) == reason
