"""Object-aware VQA: the four forms, the balance of Yes and No, and where absent objects come from."""

import collections
import dataclasses
import functools
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


@pytest.fixture(scope="module")
def task(data, make):
    return make(object_aware, data, classes=CLASSES)


@pytest.fixture(scope="module")
def by_form(data, run, task):
    """by_form(record, seeds) → {form: [(prompt, target)]}."""

    @functools.cache
    def asked(labels, seeds):
        record = {"objects": [{"label": label} for label in labels]} if labels else RECORD
        examples = run(task, data, record, seeds=seeds)
        pairs = collections.defaultdict(list)
        for host, pair in zip(examples.host(), examples.pairs, strict=True):
            pairs[host["form"].decode()].append(pair)
        return pairs

    return asked


def test_forms_are_equally_frequent(by_form):
    counts = {form: len(pairs) for form, pairs in by_form(None, 400).items()}
    assert counts.keys() == set(FORMS)
    assert all(65 <= count <= 135 for count in counts.values())  # 100 ± 4 sigma


def test_list(by_form):
    assert set(by_form(None, 400)["list"]) == {
        ("Answer in EN: List the objects present: <extra_id_0>", "dog, traffic light")
    }


def test_one(by_form):
    pairs = by_form(None, 400)["one"]
    assert set(pairs) == {
        ("Answer in EN: Is dog in the image? <extra_id_0>", "Yes"),
        ("Answer in EN: Is traffic light in the image? <extra_id_0>", "Yes"),
        ("Answer in EN: Is cat in the image? <extra_id_0>", "No"),
        ("Answer in EN: Is bird in the image? <extra_id_0>", "No"),
        ("Answer in EN: Is sofa in the image? <extra_id_0>", "No"),
        ("Answer in EN: Is tree in the image? <extra_id_0>", "No"),
    }
    _assert_balanced(pairs)


def test_all(by_form):
    pairs = by_form(("dog", "traffic light", "cat"), 600)["all"]
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


def test_which(by_form):
    kinds = collections.Counter()
    for prompt, target in by_form(None, 400)["which"]:
        named = re.fullmatch(r"Answer in EN: Which of (.*) are in the image\? <extra_id_0>", prompt)[1].split(", ")
        right = [label for label in named if label in ("dog", "traffic light")]
        assert target == ", ".join(right)  # in the order of the question
        assert 0 < len(right) < len(named) <= 4
        kinds[len(right), len(named)] += 1
    assert {(1, 2), (1, 3), (1, 4), (2, 3), (2, 4)} == set(kinds)


def test_list_leaves_out_what_does_not_fit(data, run, make):
    data = dataclasses.replace(data, feature_lengths={**data.feature_lengths, "targets": 12})
    task = make(object_aware, data, classes=CLASSES, form_rates=_only("list"))
    examples = run(task, data, RECORD, seeds=5)
    assert set(examples.targets) == {"dog"}
    assert examples.target_values(task)[0] == ("list", "dog")


def test_verified_absent_objects_come_first(data, run, task):
    record = {"objects": [*RECORD["objects"], {"label": "sofa", "verified_absent": True}]}
    examples = run(task, data, record, seeds=150)
    hosts = zip(examples.host(), examples.pairs, strict=True)
    one = {pair for host, pair in hosts if host["form"] == b"one" and pair[1] == "No"}
    assert one == {("Answer in EN: Is sofa in the image? <extra_id_0>", "No")}
    assert ("Answer in EN: List the objects present: <extra_id_0>", "dog, traffic light") in examples.pairs


def test_what_cannot_be_used_keeps_its_place(data, run, make, task):
    assert run(task, data, {}).skips == ["no objects"]
    assert run(task, data, {"objects": [{"label": "sofa", "verified_absent": True}]}).skips == ["no objects"]
    assert run(task, data, RECORD | {"image": b""}).skips == ["no image"]
    # Where nothing is known to be absent, all answers would be Yes: only lists are asked for.
    without = make(object_aware, data, classes=("dog", "traffic light"))
    examples = run(without, data, RECORD, seeds=30)
    assert {(h["form"] == b"list", skip) for h, skip in zip(examples.host(), examples.skips, strict=True)} == {
        (True, ""),
        (False, "no absent classes"),
    }


def test_metrics_by_form_and_lists_in_any_order(task):
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
