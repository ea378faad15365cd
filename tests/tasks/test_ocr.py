"""OCR: prompts and targets, reading order, and what is dropped where the target is short."""

import collections
import dataclasses

import numpy as np
import pytest

from tasks.ocr import ocr, reading_order


def _record(*strings):
    return {"ocr": [{"lang": lang, "text": text, "bbox": box} for lang, text, box in strings]}


RECORD = _record(
    ("en", "three", [0.5, 0.4, 0.6, 0.6]),
    ("de", "vier", [0.7, 0.0, 0.8, 0.2]),
    ("en", "two", [0.09, 0.5, 0.19, 0.7]),  # a little higher than "one", but on its line
    ("en", " one ", [0.10, 0.1, 0.20, 0.3]),
)


def test_ocr(data, run, make):
    task = make(ocr, data)
    examples = run(task, data, RECORD, item=0)
    assert examples.pairs == [("Generate the ocr_text in en: <extra_id_0>", "one two three")]
    assert examples.target_values(task) == [["one two three"]]
    assert run(task, data, RECORD, item=1).pairs == [("Generate the ocr_text in de: <extra_id_0>", "vier")]
    german = make(ocr, data, languages=("de",))
    assert german.source.items == "ocr_lang:de"
    assert run(german, data, RECORD, item=0).pairs == run(task, data, RECORD, item=1).pairs


def test_what_cannot_be_used_keeps_its_place(data, run, make):
    task = make(ocr, data)
    assert run(task, data, RECORD, item=2).skips == ["no ocr"]
    assert run(task, data, {}).skips == ["no ocr"]
    assert run(task, data, _record(("en", " ", [0, 0, 1, 1]))).skips == ["no ocr text"]
    assert run(task, data, _record(("en", "x" * 200, [0, 0, 1, 1]))).skips == ["ocr text too long"]
    assert run(task, data, RECORD | {"image": b""}).skips == ["no image"]


@pytest.mark.parametrize("target_length, most", [(8, 2), (7, 1)])  # bytes: "aaa bbb" is 7, and EOS
def test_whole_strings_are_dropped_at_random(data, run, target_length, most, make):
    data = dataclasses.replace(data, feature_lengths={**data.feature_lengths, "targets": target_length})
    record = _record(*(("en", letter * 3, [0, i / 4, 0.1, i / 4 + 0.2]) for i, letter in enumerate("abcd")))
    targets = run(make(ocr, data), data, record, seeds=60).targets
    assert {len(target.split()) for target in targets} == {most}
    assert all(target.split() == sorted(target.split()) for target in targets)  # still in reading order
    seen = collections.Counter(word for target in targets for word in target.split())
    assert set(seen) == {"aaa", "bbb", "ccc", "ddd"}
    assert min(seen.values()) > 4 * most  # 15 · most expected


@pytest.mark.parametrize("vocabulary", ["mt5"], indirect=True)
def test_no_string_is_ever_cut(data, run, make, vocabulary):
    """A target that fits exactly is whole; with one id less, a string is gone."""
    strings = ["cat", "traffic light", "dog"]
    record = _record(*(("en", text, [0.1 * i, 0, 0.1 * i + 0.05, 1]) for i, text in enumerate(strings)))
    exact = len(vocabulary.encode(" ".join(strings))) + 1
    whole = {"cat traffic light dog"}
    for length, possible in [(exact, whole), (exact - 1, {"cat traffic light", "cat dog", "traffic light dog"})]:
        lengths = {**data.feature_lengths, "targets": length}
        short = dataclasses.replace(data, vocabulary=vocabulary, feature_lengths=lengths)
        examples = run(make(ocr, short), short, record, seeds=6)
        assert set(examples.targets) <= possible
        assert all(fields["targets"][-1] == vocabulary.eos_id for fields in examples.fields)


def test_seen_and_unseen_words_are_told_apart(data, make):
    (metric,) = make(ocr, data, unseen_words=("horse",)).metric_fns
    scores = metric([["cat horse"]], ["cut horse"])
    assert list(scores) == ["character_error_rate", "character_error_rate_seen", "character_error_rate_unseen"]
    assert scores["character_error_rate_unseen"] == 0.0
    assert scores["character_error_rate_seen"] == 0.25


def test_reading_order():
    boxes = np.array([[0.5, 0.4, 0.6, 0.6], [0.09, 0.5, 0.19, 0.7], [0.1, 0.1, 0.2, 0.3], [0.52, 0.0, 0.62, 0.1]])
    assert reading_order(boxes.astype(np.float32)).numpy().tolist() == [2, 1, 3, 0]
    assert reading_order(np.zeros((0, 4), np.float32)).numpy().tolist() == []
    no_box = np.full((2, 4), np.nan, np.float32)
    assert reading_order(no_box).numpy().tolist() == [0, 1]
