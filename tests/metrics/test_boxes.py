"""Boxes as text, and average precision against pycocotools."""

import contextlib
import io
import math

import numpy as np
import pytest

from paligax.metrics import (
    PROBLEMS,
    Boxes,
    average_precision,
    box_problems,
    detection,
    format_boxes,
    parse_boxes,
)
from paligax.metrics.boxes import COCO_THRESHOLDS, iou


def _read(text):
    found = parse_boxes(text, bins=101)
    boxes = np.rint(found.boxes * 100).astype(int).tolist()
    return [(*box, label) for box, label in zip(boxes, found.labels, strict=True)], found.malformed


@pytest.mark.parametrize(
    "text, boxes, malformed",
    [
        ("10 20 90 100 cat 20 30 100 100 dog", [(10, 20, 90, 100, "cat"), (20, 30, 100, 100, "dog")], 0),
        ("", [], 0),
        ("1 2 3 4 traffic light", [(1, 2, 3, 4, "traffic light")], 0),
        ("cat", [], 1),  # no numbers
        ("1 2 3 cat 1 2 3 4 dog", [(1, 2, 3, 4, "dog")], 1),  # one number short
        ("1 2 3 4 cat 5 6", [(1, 2, 3, 4, "cat")], 1),  # cut off
        ("1 2 3 4", [], 1),  # no class
        ("1 2 3 4 boeing 747 5 6 7 8 cat", [(1, 2, 3, 4, "boeing 747"), (5, 6, 7, 8, "cat")], 0),
        ("9 1 2 3 4 cat", [(1, 2, 3, 4, "cat")], 1),  # one number too many at the start
        ("1 2 3 101 cat", [], 1),  # outside of the image
        ("3 2 1 4 cat", [], 1),  # ymin > ymax
        ("1 4 3 2 cat", [], 1),  # xmin > xmax
        ("1 2 -3 4 cat", [], 2),
        ("9" * 5000 + " 1 1 1 cat", [], 1),
    ],
)
def test_parse(text, boxes, malformed):
    assert _read(text) == (boxes, malformed)


def test_format_is_read_back():
    boxes = np.array([[0.0, 0.25, 0.5, 1.0], [0.1, 0.1, 0.9, 0.9]])
    text = format_boxes(boxes, ["cat", "traffic light"])
    assert text == "0 250 500 999 cat 100 100 899 899 traffic light"
    found = parse_boxes(text)
    assert found.labels == ("cat", "traffic light")
    np.testing.assert_allclose(found.boxes, boxes, atol=0.5 / 999 + 1e-9)


def test_iou_by_hand():
    a = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], float)
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6], [0, 0, 0, 0]], float)
    np.testing.assert_allclose(iou(a, b), [[1 / 7, 1, 0, 0], [0, 0, 0, 0]])


def test_average_precision_by_hand():
    square, other = [0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]
    truth = [Boxes([square, other], ("cat", "cat"))]
    assert average_precision(truth, truth)[0] == 1.0
    # One of two found, then a wrong one: precision 1 up to recall 0.5, i.e. at 51 of 101 levels.
    found = [Boxes([square, [0, 0.5, 0.1, 0.6]], ("cat", "cat"))]
    assert average_precision(truth, found, (0.5,))[0] == pytest.approx(51 / 101)
    # The same in the other order: precision 1/2.
    found = [Boxes(found[0].boxes[::-1], ("cat", "cat"))]
    assert average_precision(truth, found, (0.5,))[0] == pytest.approx(0.5 * 51 / 101)
    # The right box under another class is nothing; a class nobody asked for costs nothing.
    assert average_precision(truth, [Boxes([square], ("dog",))], (0.5,))[0] == 0.0
    assert average_precision(truth, [Boxes([], ())], (0.5,))[0] == 0.0
    assert math.isnan(average_precision([Boxes([], ())], found, (0.5,))[0])


def _coco(targets, predictions, pixels=1000):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    names = sorted({label for boxes in (*targets, *predictions) for label in boxes.labels})

    def annotations(images, scored):
        found = []
        for image, boxes in enumerate(images, 1):
            scores = np.ones(len(boxes.labels)) if boxes.scores is None else boxes.scores
            for (y0, x0, y1, x1), label, score in zip(
                np.round(boxes.boxes * pixels, 9), boxes.labels, scores, strict=True
            ):
                fields = {"image_id": image, "category_id": names.index(label) + 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}
                extra = {"score": score} if scored else {"id": len(found) + 1, "iscrowd": 0}
                found.append(fields | extra | {"area": (y1 - y0) * (x1 - x0)})
        return found

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": i + 1} for i in range(len(targets))],
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(names)],
            "annotations": annotations(targets, False),
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(annotations(predictions, True)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # thresholds, recalls, classes
    return [p[p > -1].mean() for p in precision]


@pytest.mark.parametrize("scored", [False, True])
def test_average_precision_agrees_with_pycocotools(scored):
    rng = np.random.default_rng(int(scored))
    targets, predictions = [], []
    for _ in range(30):
        low = rng.uniform(0, 0.5, (rng.integers(1, 5), 2))
        true = np.concatenate([low, low + rng.uniform(0.05, 0.5, low.shape)], 1)
        labels = rng.choice(["cat", "dog", "bird"], len(true))
        targets.append(Boxes(true, tuple(labels)))
        found = np.clip(np.repeat(true, 2, 0) + rng.normal(0, 0.03, (2 * len(true), 4)), 0, 1)
        keep = rng.random(len(found)) < 0.6
        found_labels = np.where(rng.random(len(found)) < 0.9, np.repeat(labels, 2), "fish")
        scores = rng.choice([0.2, 0.5, 0.9], keep.sum()) if scored else None
        predictions.append(Boxes(found[keep], tuple(found_labels[keep]), scores))
    ours = average_precision(targets, predictions)
    assert 0.05 < ours[0] < 0.95
    np.testing.assert_allclose(ours, _coco(targets, predictions), rtol=0, atol=1e-12)
    assert len(ours) == len(COCO_THRESHOLDS)


@pytest.mark.parametrize(
    "text, problems",
    [
        ("1 2 3 4 cat", {}),
        ("cat 1 2 3 4 cat", {"no_coordinates": 1}),
        ("1 2 3 4 cat 5 6", {"cut_off": 1}),
        ("1 2 3 4 cat 5 6 7 8", {"cut_off": 1}),
        ("1 2 3 cat 1 2 dog", {"too_few_coordinates": 2}),
        ("1 2 3 101 cat", {"out_of_range": 1}),
        ("3 2 1 4 cat 1 4 3 2 cat", {"reversed": 2}),
        ("9 1 2 3 4 cat", {"surplus_numbers": 1}),
        ("9 3 2 1 4 cat", {"surplus_numbers": 1, "reversed": 1}),
        ("999 2 3 cat", {"too_few_coordinates": 1}),  # one kind each
    ],
)
def test_problems_are_counted_by_kind(text, problems):
    found = parse_boxes(text, bins=101)
    assert found.problems == problems
    assert found.malformed == sum(problems.values())
    assert set(problems) <= set(PROBLEMS)


def test_metric_functions():
    truth = [Boxes([[0, 0, 0.5, 0.5]], ("cat",)), Boxes([[0, 0, 1, 1]], ("dog",))]
    found = [parse_boxes("0 0 50 50 cat 1 2 cat", bins=101), parse_boxes("3 2 1 4 dog 0 0 100 100 dog", bins=101)]
    assert detection(truth, found) == {"ap50": 1.0, "ap": 1.0, "malformed": 0.5}
    shares = box_problems(truth, found)
    assert shares == {f"malformed_{kind}": 0.0 for kind in PROBLEMS} | {
        "malformed_too_few_coordinates": 0.25,
        "malformed_reversed": 0.25,
    }


def test_at_most_a_hundred_of_a_class_and_image_count():
    """As pycocotools counts: the right box stands behind 100 wrong ones."""
    square, wrong = [0.5, 0.5, 1, 1], [0, 0, 0.1, 0.1]
    truth, found = [Boxes([square], ("cat",))], [Boxes([wrong] * 100 + [square], ("cat",) * 101)]
    assert average_precision(truth, found).max() == 0 == max(_coco(truth, found))
    assert average_precision(truth, found, max_detections=101)[0] == pytest.approx(1 / 101)


@pytest.mark.parametrize("seed", range(3))
def test_generated_boxes_agree_with_pycocotools(seed):
    """On a coarse grid, where many overlaps equal a threshold and boxes are empty; pycocotools gets whole pixels."""
    rng = np.random.default_rng(seed)
    targets, predictions, texts = [], [], []
    for _ in range(40):
        corners = np.sort(rng.integers(0, 11, (rng.integers(1, 7), 2, 2)), axis=1).reshape(-1, 4)
        moved = np.clip(corners + rng.integers(-1, 2, corners.shape) * (rng.random(corners.shape) < 0.3), 0, 10)
        labels = rng.choice(["cat", "traffic light"], len(corners)).tolist()
        targets.append(Boxes(corners / 10, tuple(labels)))
        texts.append(format_boxes(moved / 10, labels, bins=11) + rng.choice(["", " 1 2", " 9 9 1 1 cat"]))
        predictions.append(parse_boxes(texts[-1], bins=11))
    ours = average_precision(targets, predictions)
    assert 0.1 < ours[0] < 0.95 and sum(p.malformed for p in predictions) > 5
    np.testing.assert_allclose(ours, _coco(targets, predictions, pixels=10), rtol=0, atol=1e-6)
