import math

import pytest

from paligax.data.ingest.readers import fields


def test_parse():
    assert fields.parse(" question = qa/question, id ,file=image,") == (
        ("question", "qa/question"),
        ("id", "id"),
        ("file", "image"),
    )
    assert fields.parse("") == ()
    with pytest.raises(ValueError, match="'qa/questoin'; did you mean 'qa/question'"):
        fields.parse("q=qa/questoin")
    with pytest.raises(ValueError, match="THEIRS=OURS"):
        fields.parse("q=")


def test_find():
    tree = {"a": {"b": [{"c": 1}, {"c": 2}]}, "x.y": 3, "x": {"y": 4, "z/w": 5}, "image/id": 6}
    assert fields.find(tree, "a.b.c") == fields.find(tree, "a/b/c") == [1, 2]
    assert fields.find(tree, "x.y") == 3 and fields.find(tree, "x/y") == 4 and fields.find(tree, "x.z/w") == 5
    assert fields.find(tree, "image/id") == 6
    for name in ("b", "a.c", "a.b.d", "x.y.z", "", "."):
        with pytest.raises(KeyError):
            fields.find(tree, name)


def test_one_value_and_lists_become_items():
    values = [("id", 7), ("qa/question", "what?"), ("qa/answer", ["a cat", "cat", 3]), ("score", 1)]
    record, reasons = fields.record(values, lang="en")
    answers = [{"lang": "en", "question": "what?", "answer": answer} for answer in ("a cat", "cat", "3")]
    assert (record, reasons) == ({"id": "7", "qa": answers, "score": 1.0}, [])


def test_several_names_for_one_field():
    values = [("id", ""), ("id", "b"), ("id", "c"), ("alt_text/text", "one"), ("alt_text/text", ["two", b"three"])]
    record, reasons = fields.record([*values, ("labels", "x"), ("labels", ["y", None])])
    assert record == {
        "id": "b",
        "alt_text": [{"text": "one"}, {"text": "two"}, {"text": b"three"}],
        "labels": ["x", "y"],
    }
    assert reasons == []


@pytest.mark.parametrize(
    "value",
    [
        [{"label": "cat", "bbox": [0, 0, 1, 1]}, {"label": "dog"}],
        {"label": ["cat", "dog"], "bbox": [[0, 0, 1, 1], None]},
    ],
)
def test_a_whole_group(value):
    record, reasons = fields.record([("objects", value)])
    assert reasons == [] and [item["label"] for item in record["objects"]] == ["cat", "dog"]
    assert record["objects"][0]["bbox"] == [0.0, 0.0, 1.0, 1.0]
    assert "bbox" not in record["objects"][1] or math.isnan(record["objects"][1]["bbox"][0])


def test_plain_texts_are_a_groups_main_field():
    assert fields.record([("alt_text", "a cat")], "en")[0] == {"alt_text": [{"text": "a cat", "lang": "en"}]}
    assert fields.record([("objects", ["cat", "dog"])])[0] == {"objects": [{"label": "cat"}, {"label": "dog"}]}
    assert fields.record([("alt_text", {"text": "a cat", "lang": "de"})], "en")[0]["alt_text"][0]["lang"] == "de"


def test_boxes_of_one_object_and_of_several():
    one = fields.record([("objects/label", "cat"), ("objects/bbox", [0.1, 0.2, 0.3, 0.4])])
    assert one == ({"objects": [{"label": "cat", "bbox": [0.1, 0.2, 0.3, 0.4]}]}, [])
    two = fields.record([("objects/label", ["a", "b"]), ("objects/bbox", [[0, 0, 1, 1], [0, 0, 0.5, 1]])])
    assert [item["bbox"] for item in two[0]["objects"]] == [[0, 0, 1, 1], [0, 0, 0.5, 1]]


def test_nothing_is_nothing():
    values = [("id", None), ("qa/question", None), ("alt_text", None), ("score", None), ("alt_text/text", [])]
    assert fields.record(values, "en") == ({}, [])


@pytest.mark.parametrize(
    "ours, value",
    [
        ("id", {"a": 1}),
        ("id", True),
        ("id", ["a"]),
        ("score", "0.5"),
        ("score", 10**400),
        ("score", True),
        ("text", [1, 2]),
        ("alt_text", 3),
        ("alt_text", [[["a"]]]),
        ("alt_text", {"text": {"a": 1}}),
        ("alt_text/text", {"a": 1}),
        ("objects", {"label": "cat", "bbox": "abcd"}),
        ("objects", {"label": "cat", "bbox": [1, 2, 3]}),
        ("objects", {"label": "cat", "bbox": [1, 2, 3, {}]}),
        ("objects", {"label": "cat", "bbox": 5}),
        ("objects", {"label": "cat", "verified_absent": 2}),
        ("labels", [{"a": 1}]),
    ],
)
def test_values_of_wrong_types_are_counted(ours, value):
    record, reasons = fields.record([(ours, value), ("source", "good")])
    assert record["source"] == "good" and reasons == ["value of a wrong type"]
    assert record.get("objects", [{"label": "cat"}]) == [{"label": "cat"}]


def test_uneven_groups_and_items_without_a_text_are_counted():
    uneven = [("qa/question", ["a", "b"]), ("qa/answer", ["1"])]
    assert fields.record(uneven) == ({}, ["uneven groups"])
    assert fields.record([("qa", {"question": ["a", "b"], "answer": ["1"]})]) == ({}, ["value of a wrong type"])
    record, reasons = fields.record([("qa", [{"answer": "1"}, {"question": "a", "answer": "2"}, {}])])
    assert record == {"qa": [{"question": "a", "answer": "2"}]} and reasons == ["empty text"]


def test_missing_texts_of_tables_are_empty():
    assert fields.record([("id", math.nan)])[0] == {"id": ""}


def test_text_only_records_get_the_language():
    assert fields.record([("text", "hallo")], "de")[0] == {"text": "hallo", "text_lang": "de"}
    assert fields.record([("text", "hallo"), ("text_lang", "nl")], "de")[0]["text_lang"] == "nl"
