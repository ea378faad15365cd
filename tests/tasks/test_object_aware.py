"""Object-aware VQA: the four forms, the balance of Yes and No, and where absent objects come from."""

import collections
import dataclasses
import re

import pytest

from tasks.object_aware import FORMS, object_aware

CLASSES = ("cat", "dog", "bird", "traffic light", "sofa", "tree")
RECORD = {
    "objects": [
        {"label": "dog", "confidence": 0.9},
        {"label": "traffic light", "bbox": [0, 0, 0.5, 0.5]},
        {"label": "dog", "bbox": [0, 0, 0.1, 0.1]},
        {"label": ""},
    ]
}


def _only(form):
    return [float(form == f) for f in FORMS]


def test_list(data, run, make):
    task = make(object_aware, data, classes=CLASSES, form_rates=_only("list"))
    examples = run(task, data, RECORD)
    assert examples.pairs == [("Answer in EN: List the objects present: <extra_id_0>", "dog, traffic light")]
    assert examples.target_values(task) == [("list", "dog, traffic light")]


def test_list_leaves_out_what_does_not_fit(data, run, make):
    data = dataclasses.replace(data, feature_lengths={**data.feature_lengths, "targets": 12})
    task = make(object_aware, data, classes=CLASSES, form_rates=_only("list"))
    assert run(task, data, RECORD).targets == ["dog"]


def test_one(data, run, make):
    task = make(object_aware, data, classes=CLASSES, form_rates=_only("one"))
    pairs = run(task, data, RECORD, seeds=100).pairs
    assert set(pairs) == {
        ("Answer in EN: Is dog in the image? <extra_id_0>", "Yes"),
        ("Answer in EN: Is traffic light in the image? <extra_id_0>", "Yes"),
        ("Answer in EN: Is cat in the image? <extra_id_0>", "No"),
        ("Answer in EN: Is bird in the image? <extra_id_0>", "No"),
        ("Answer in EN: Is sofa in the image? <extra_id_0>", "No"),
        ("Answer in EN: Is tree in the image? <extra_id_0>", "No"),
    }
    _assert_balanced(pairs)


def test_all(data, run, make):
    record = {"objects": [{"label": label} for label in ("dog", "traffic light", "cat")]}
    task = make(object_aware, data, classes=CLASSES, form_rates=_only("all"), max_objects=3)
    pairs = run(task, data, record, seeds=200).pairs
    sizes = collections.Counter()
    for prompt, target in pairs:
        named = re.fullmatch(r"Answer in EN: Is (.*) in the image\? <extra_id_0>", prompt)[1].split(", ")
        assert len(set(named)) == len(named) and len(named) in (2, 3)
        assert target == ("Yes" if set(named) <= {"dog", "traffic light", "cat"} else "No")
        sizes[len(named), target] += 1
    _assert_balanced(pairs)
    for size in (2, 3):  # the number of objects doesn't give the answer away
        assert abs(sizes[size, "Yes"] - sizes[size, "No"]) < 4 * sum(sizes[size, t] for t in ("Yes", "No")) ** 0.5
    assert any(prompt.startswith("Answer in EN: Is bird") for prompt, _ in pairs)  # absent ones stand anywhere


def test_which(data, run, make):
    task = make(object_aware, data, classes=CLASSES, form_rates=_only("which"))
    kinds = collections.Counter()
    for prompt, target in run(task, data, RECORD, seeds=100).pairs:
        named = re.fullmatch(r"Answer in EN: Which of (.*) are in the image\? <extra_id_0>", prompt)[1].split(", ")
        right = [label for label in named if label in ("dog", "traffic light")]
        assert target == ", ".join(right)  # in the order of the question
        assert 0 < len(right) < len(named) <= 4
        kinds[len(right), len(named)] += 1
    assert {(1, 2), (1, 3), (1, 4), (2, 3), (2, 4)} == set(kinds)


def test_forms_are_drawn_by_their_rates(data, run, make):
    task = make(object_aware, data, classes=CLASSES, form_rates=(2, 1, 0, 1))
    forms = collections.Counter(h["form"].decode() for h in run(task, data, RECORD, seeds=200).host())
    assert set(forms) == {"list", "one", "which"}
    assert 70 <= forms["list"] <= 130 and 25 <= forms["one"] <= 75


def test_verified_absent_objects_come_first(data, run, make):
    record = {"objects": [*RECORD["objects"], {"label": "sofa", "verified_absent": True}]}
    task = make(object_aware, data, classes=CLASSES, form_rates=_only("one"))
    asked = {prompt for prompt, target in run(task, data, record, seeds=40).pairs if target == "No"}
    assert asked == {"Answer in EN: Is sofa in the image? <extra_id_0>"}
    # No class list is needed then, and an absent object isn't listed.
    task = make(object_aware, data, form_rates=_only("list"))
    assert run(task, data, record).targets == ["dog, traffic light"]


def test_what_cannot_be_used_keeps_its_place(data, run, make):
    task = make(object_aware, data, classes=CLASSES)
    assert run(task, data, {}).skips == ["no objects"]
    assert run(task, data, {"objects": [{"label": "sofa", "verified_absent": True}]}).skips == ["no objects"]
    assert run(task, data, RECORD | {"image": b""}).skips == ["no image"]
    task = make(object_aware, data, classes=("dog", "traffic light"), form_rates=_only("one"))
    assert run(task, data, RECORD).skips == ["no absent classes"]  # else all answers would be Yes
    task = make(object_aware, data, classes=("dog", "traffic light"), form_rates=_only("list"))
    assert run(task, data, RECORD).skips == [""]


def test_metrics_by_form_and_lists_in_any_order(data, make):
    task = make(object_aware, data, classes=CLASSES)
    (metric,) = task.metric_fns
    scores = metric([("list", "dog, cat"), ("one", "Yes"), ("one", "No")], ["cat, dog", "yes", "Yes"])
    assert list(scores) == ["exact_match", "exact_match_list", "exact_match_one"]
    assert scores == {"exact_match": pytest.approx(2 / 3), "exact_match_list": 1.0, "exact_match_one": 0.5}


def test_mistakes_are_told(data, make):
    with pytest.raises(ValueError, match="four numbers"):
        make(object_aware, data, form_rates=(1, 2))
    with pytest.raises(ValueError, match="max_objects must be at least 2"):
        make(object_aware, data, max_objects=1)
    with pytest.raises(ValueError, match="more than once: dog"):
        make(object_aware, data, classes=("dog", "cat", "dog"))
    with pytest.raises(ValueError, match="blanks at its ends"):
        make(object_aware, data, classes=("dog ",))


def _assert_balanced(pairs):
    yes = sum(target == "Yes" for _, target in pairs)
    assert abs(yes - len(pairs) / 2) < 1.5 * len(pairs) ** 0.5  # 3 sigma
