"""VQA accuracy against figures of the official scorers, which cases/vqa.json holds, and worked out by hand."""

import json
import math
import pathlib

import numpy as np
import pytest

from paligax.metrics import (
    PROTOCOLS,
    Protocol,
    Question,
    answerability,
    answerable,
    merge_unanswerable,
    normalise_course,
    normalise_vqa,
    vqa_accuracy,
    vqa_accuracy_by_type,
    vqa_scores,
)
from paligax.metrics.vqa import CONTRACTIONS, VIZWIZ_CONTRACTIONS, strip_punctuation

CASES = pathlib.Path(__file__).parent / "cases"
VQA = json.loads((CASES / "vqa.json").read_text(encoding="utf-8"))
QUESTIONS = VQA["questions"]
ANSWERS = [question["answers"] for question in QUESTIONS]
PREDICTIONS = [question["prediction"] for question in QUESTIONS]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("t-shirt", "t shirt"),
        ("t-shirt - red", "tshirt  red"),  # beside a blank once: deleted everywhere
        ("a-b 1,000", "ab 1000"),  # a comma between digits: every mark deleted
        ("what?", "what "),
        ("it's 5:30 p.m.", "it's 5:30 pm"),  # apostrophe and colon stay
        ("3.5.", "3.5"),
        ("." * 40, "." * 8),  # the first 32 full stops alone
    ],
)
def test_punctuation_goes_as_the_official_scorer_has_it(text, expected):
    assert strip_punctuation(text) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("The two dogs, isnt it?", "2 dogs isn't it"),
        ("None\n", "0"),
        ("Someone", "someone"),
        ("shed've somebody'd", "she'd've somebodyd"),
    ],
)
def test_normalise(text, expected):
    assert normalise_vqa(text) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Someone's kitten.", "some1's kit10"),  # parts of words too
        ("none", "n1"),
        ("The U.S. has 3.5 a day", "us has 3 5 day"),
        ("dont know, at 5:30!", "don't know at 5:30"),
    ],
)
def test_normalise_course(text, expected):
    assert normalise_course(text) == expected


def test_normalises_as_the_official_scorer():
    assert {text: normalise_vqa(text) for text in VQA["normalised"]} == VQA["normalised"]


@pytest.mark.parametrize(
    "ours, official",
    [(CONTRACTIONS, VQA["contractions"]), (VIZWIZ_CONTRACTIONS, VQA["vizwiz_contractions"])],
    ids=["vqa", "vizwiz"],
)
def test_contractions_are_the_official_ones_that_have_an_effect(ours, official):
    assert dict(ours) == {key: word for key, word in official.items() if key != word and key == key.lower()}


@pytest.mark.parametrize("protocol", ["vqa_v2", "vqa_v2_2017", "vizwiz"])
def test_scores_equal_the_official_ones(protocol):
    ours = vqa_scores(ANSWERS, PREDICTIONS, PROTOCOLS[protocol])
    np.testing.assert_allclose(100 * ours, [q["scores"][protocol] for q in QUESTIONS], atol=1e-8)
    whole = vqa_accuracy(ANSWERS, PREDICTIONS, PROTOCOLS[protocol])
    assert 100 * whole["vqa_accuracy"] == pytest.approx(VQA["overall"][protocol]["vqa_accuracy"], abs=1e-8)
    assert 0.1 < whole["vqa_accuracy"] < 0.9


def test_the_protocols_differ_on_the_cases():
    scores = np.array([vqa_scores(ANSWERS, PREDICTIONS, protocol) for protocol in PROTOCOLS.values()])
    assert len(np.unique(scores, axis=0)) == len(PROTOCOLS)


@pytest.mark.parametrize("protocol", ["vqa_v2", "vqa_v2_2017"])
def test_types_equal_the_official_ones(protocol):
    targets = [Question(tuple(q["answers"]), q["answer_type"], q["question_type"]) for q in QUESTIONS]
    ours = vqa_accuracy_by_type(targets, PREDICTIONS, PROTOCOLS[protocol])
    official = VQA["overall"][protocol]
    assert len(ours) == len(official) == 1 + 3 + 4
    for name, theirs in {
        "vqa_accuracy_answer_yes_no": "answer yes/no",
        "vqa_accuracy_answer_number": "answer number",
        "vqa_accuracy_question_what_color_is_the": "question what color is the",
        "vqa_accuracy_question_none_of_the_above": "question none of the above",
    }.items():
        assert 100 * ours[name] == pytest.approx(official[theirs], abs=1e-8)


def test_leaving_out_and_not():
    """How many of ten people must agree."""
    answers = [["yes"] * n + ["no"] * (10 - n) for n in range(11)]
    said = ["yes"] * 11
    np.testing.assert_allclose(vqa_scores(answers, said), [0, 0.3, 0.6, 0.9] + [1] * 7)
    np.testing.assert_allclose(vqa_scores(answers, said, PROTOCOLS["simple"]), [0, 1 / 3, 2 / 3] + [1] * 8)
    # As the sum over the people left out, written out.
    plain = [
        np.mean([min(sum(a == "yes" for a in row[:i] + row[i + 1 :]) / 3, 1) for i in range(10)]) for row in answers
    ]
    np.testing.assert_allclose(vqa_scores(answers, said), plain)


def test_what_ground_truth_processing_changes():
    def score(kind, answers, prediction):
        return Protocol(kind).score(answers, prediction)

    agreed, split = ["T-shirt."] * 10, ["T-shirt."] * 5 + ["t shirt"] * 5
    assert [score(kind, agreed, "T-shirt.") for kind in ("raw", "punct_if_disagree", "full_if_disagree", "full")] == [
        0, 0, 1, 1
    ]  # fmt: skip
    assert [score(kind, split, "t-shirt") for kind in ("raw", "punct_if_disagree", "full_if_disagree", "full")] == [
        1, 1, 1, 1
    ]  # fmt: skip
    assert score("raw", ["two"] * 10, "two") == 0  # the prediction has become 2
    assert score("punct_if_disagree", ["two"] * 9 + ["2"], "two") == 0.3
    assert score("full", ["two"] * 10, "two") == 1
    with pytest.raises(ValueError, match="'half'; choose one of 'raw'"):
        Protocol("half")


def test_the_course_divides_by_ten_people():
    assert vqa_scores([["one"] * 5], ["1"], PROTOCOLS["tokyo_course"]) == pytest.approx(0.5)


def test_questions_without_answers_are_left_out():
    assert vqa_accuracy([[], ["dog"] * 10], ["dog", "cat"]) == {"vqa_accuracy": 0.0}
    assert vqa_accuracy([[], ["cat"] * 10], ["x", "cat"]) == {"vqa_accuracy": 1.0}
    assert math.isnan(vqa_accuracy([[]], ["x"])["vqa_accuracy"])


def test_merge_unanswerable():
    assert merge_unanswerable("unanswered.") == "unanswerable"
    assert merge_unanswerable("cat") == "cat"


def test_answerability_equals_scikit_learn():
    for case in json.loads((CASES / "classification.json").read_text())["answerability"]:
        found = answerability(case["answerable"], case["predictions"])
        assert found["answerability_average_precision"] == pytest.approx(case["average_precision"], abs=1e-12)
        assert found["answerability_f1"] == pytest.approx(case["f1"], abs=1e-12)


def test_answerability_of_text():
    assert [answerable(text) for text in ("unanswerable", "Unanswerable.", "red")] == [0.0, 0.0, 1.0]
    texts = ["unanswerable", "red", "unanswerable", "2"]
    assert answerability([0, 1, 1, 1], [answerable(t) for t in texts]) == {
        "answerability_average_precision": pytest.approx(0.5),
        "answerability_f1": pytest.approx(2 / 3),
    }
    with pytest.raises(ValueError, match="0 or 1"):
        answerability([2], [0.5])
