import numpy as np

from paligax.data import items, records
from paligax.data.runtime import tf
from tests.data.test_schema import FULL, PNG


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


def test_pick_question_takes_all_answers_of_a_question():
    asked = [("en", "a?", "1"), ("de", "a?", "2"), ("en", "b?", "3"), ("en", "a?", "1"), ("", "c?", "4")]
    qa = {**FULL, "qa": [{"lang": lang, "question": q, "answer": a} for lang, q, a in asked]}
    assert items.ITEMS["question"](records.decode(records.encode(qa))) == 4
    picked = [records.pick_question(example(item, qa)) for item in range(5)]
    found = [(e["qa/lang"].numpy(), e["qa/question"].numpy(), e["qa/answer"].numpy().tolist()) for e in picked]
    assert found == [
        (b"en", b"a?", [b"1", b"1"]), (b"de", b"a?", [b"2"]), (b"en", b"b?", [b"3"]), (b"", b"c?", [b"4"]),
        (b"", b"", []),
    ]  # fmt: skip
    assert [e["skip"].numpy() for e in picked] == [b""] * 4 + [b"no qa"]


def test_pick_language_counts_in_order_of_appearance():
    langs = {**FULL, "ocr": [{"lang": lang, "text": "x"} for lang in ("fr", "en", "fr", "", "de")]}
    assert items.ITEMS["ocr_lang"](records.decode(records.encode(langs))) == 3
    found = [records.pick_language(example(item, langs), "ocr") for item in range(4)]
    assert [lang.numpy() for _, lang in found] == [b"fr", b"en", b"de", b""]
    assert [e["skip"].numpy() for e, _ in found] == [b"", b"", b"", b"no ocr"]


def test_the_first_reason_to_skip_stays():
    first = records.skip_if({"skip": tf.constant("")}, tf.constant(True), "one")
    assert records.skip_if(first, tf.constant(True), "two")["skip"].numpy() == b"one"
    assert not records.usable(first)
    assert records.usable(records.skip_if({}, tf.constant(False), "one"))
