"""Detection: prompts and targets, box orders, absent classes."""

import collections
import dataclasses
import re

import numpy as np
import pytest

from paligax import metrics
from tasks.detection import detection

CLASSES = ("cat", "dog", "bird", "traffic light", "sofa", "tree")
CAT, DOG, BIG_CAT = [0.5, 0.0, 0.6, 0.25], [0.1, 0.2, 0.3, 0.4], [0.4, 0.5, 1.0, 1.0]
RECORD = {
    "objects": [
        {"label": "cat", "bbox": CAT},
        {"label": "dog", "bbox": DOG},
        {"label": "cat", "bbox": BIG_CAT},
        {"label": "tree"},  # somewhere in the image: neither to be asked for nor absent
    ]
}
PIECES = {"500 0 599 250 cat": CAT, "100 200 300 400 dog": DOG, "400 500 999 999 cat": BIG_CAT}


def _cut(target):
    return re.findall(r"\d+ \d+ \d+ \d+ [a-z ]*[a-z]", target)


def test_prompt_and_target(data, run, make):
    task = make(detection, data, classes=CLASSES, num_negatives=(0, 0), box_order="size")
    assert set(run(task, data, RECORD, seeds=10).pairs) == {
        ("detect cat and dog", "400 500 999 999 cat 100 200 300 400 dog 500 0 599 250 cat"),
        ("detect dog and cat", "400 500 999 999 cat 100 200 300 400 dog 500 0 599 250 cat"),
    }
    task = make(detection, data, classes=CLASSES, num_negatives=(0, 0), box_order="reading")
    assert run(task, data, RECORD).targets == ["100 200 300 400 dog 500 0 599 250 cat 400 500 999 999 cat"]


def test_boxes_are_shuffled_for_each_example(data, run, make):
    task = make(detection, data, classes=CLASSES)
    targets = run(task, data, RECORD, seeds=60).targets
    assert len(set(targets)) == 6
    assert all(set(_cut(target)) == set(PIECES) for target in targets)


def test_absent_classes_stand_among_the_present(data, run, make):
    task = make(detection, data, classes=CLASSES)
    asked = [prompt.removeprefix("detect ").split(" and ") for prompt in run(task, data, RECORD, seeds=80).prompts]
    assert collections.Counter(map(len, asked)).keys() == {3, 4, 5}
    negatives = [[label for label in labels if label not in ("cat", "dog")] for labels in asked]
    assert {label for labels in negatives for label in labels} == {"bird", "traffic light", "sofa"}  # never "tree"
    assert all(len(set(labels)) == len(labels) and {"cat", "dog"} <= set(labels) for labels in asked)
    assert len({labels.index("cat") for labels in asked}) == 5


def test_verified_absent_classes_come_first(data, run, make):
    record = {"objects": [*RECORD["objects"], {"label": "unicorn", "verified_absent": True, "bbox": [0, 0, 1, 1]}]}
    task = make(detection, data, classes=CLASSES, num_negatives=(1, 1))
    examples = run(task, data, record, seeds=10)
    assert {frozenset(prompt.removeprefix("detect ").split(" and ")) for prompt in examples.prompts} == {
        frozenset({"cat", "dog", "unicorn"})
    }
    assert not any("unicorn" in target for target in examples.targets)


def test_more_classes_than_asked_for(data, run, make):
    task = make(detection, data, classes=CLASSES, num_negatives=(0, 0), max_positives=1, box_order="size")
    assert set(run(task, data, RECORD, seeds=20).pairs) == {
        ("detect cat", "400 500 999 999 cat 500 0 599 250 cat"),
        ("detect dog", "100 200 300 400 dog"),
    }


@pytest.mark.parametrize("order", ["shuffled", "size"])
def test_only_whole_boxes_are_dropped(data, run, order, make):
    data = dataclasses.replace(data, feature_lengths={**data.feature_lengths, "targets": 45})
    task = make(detection, data, classes=CLASSES)
    examples = run(task, data, RECORD, seeds=20)
    found = {tuple(_cut(target)) for target in examples.targets}
    assert all(len(pieces) == 2 and set(pieces) <= set(PIECES) for pieces in found)
    assert len(found) == 6
    # All boxes are still to be found in evaluation.
    assert all(len(h["boxes"]) == 3 for h in examples.host())


def test_bins(data, run, make):
    task = make(detection, data, classes=CLASSES, bins=11, max_positives=1, num_negatives=(0, 0))
    record = {"objects": [{"label": "dog", "bbox": [0.0, 0.26, 0.5, 1.0]}]}
    assert run(task, data, record).targets == ["0 3 5 10 dog"]


def test_the_right_text_scores_one(data, run, make):
    task = make(detection, data, classes=CLASSES)
    (metric,) = task.metric_fns
    examples = run(task, data, RECORD, seeds=3)
    targets = examples.target_values(task)
    assert sorted(targets[0].labels) == ["cat", "cat", "dog"]
    predictions = [task.postprocess_fn(text, example={}, is_target=False) for text in examples.targets]
    scores = metric(targets, predictions)
    assert list(scores) == ["ap50", "ap", "malformed", *(f"malformed_{kind}" for kind in metrics.PROBLEMS)]
    assert scores["ap50"] == 1.0 and scores["malformed"] == 0.0 and scores["ap"] > 0.95
    said = task.postprocess_fn("dog dog 1 2 3 cat 500 1 499 2 cat 0 0 1 1000 dog 9 9", example={}, is_target=False)
    garbage = metric(targets, [said, *predictions[1:]])
    assert garbage["malformed"] == pytest.approx(5 / 11)  # of five pieces and six boxes
    assert {key: value for key, value in garbage.items() if value == 1 / 11} == {
        f"malformed_{kind}": 1 / 11
        for kind in ("no_coordinates", "too_few_coordinates", "reversed", "out_of_range", "cut_off")
    }
    assert garbage["ap50"] < 1.0


def test_text_of_boxes_is_the_metrics_own(data, run, make):
    task = make(detection, data, classes=CLASSES, num_negatives=(0, 0), box_order="size")
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 0.4, (5, 2))
    boxes = np.concatenate([low, low + np.arange(5, 0, -1)[:, None] * 0.1], axis=1).astype(np.float32)
    record = {"objects": [{"label": "dog", "bbox": box} for box in boxes]}
    assert run(task, data, record).targets == [metrics.format_boxes(boxes, ["dog"] * 5)]


def test_what_cannot_be_used_keeps_its_place(data, run, make):
    task = make(detection, data, classes=CLASSES)
    assert run(task, data, {"objects": [{"label": "tree"}]}).skips == ["no boxes"]
    assert run(task, data, {}).skips == ["no boxes"]
    long = {"objects": [{"label": "x" * 200, "bbox": [0, 0, 1, 1]}]}
    assert run(task, data, long).skips == ["box too long"]
    assert run(task, data, RECORD | {"image": b""}).skips == ["no image"]


def test_mistakes_are_told(data, make):
    with pytest.raises(ValueError, match="'sizes' is not known; choose one of shuffled, reading, size"):
        make(detection, data, box_order="sizes")
    with pytest.raises(ValueError, match="least ≤ greatest"):
        make(detection, data, num_negatives=(3, 1))
