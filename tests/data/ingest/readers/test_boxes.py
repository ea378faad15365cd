import math

import numpy as np
import pytest

from paligax.data.ingest.readers import boxes
from paligax.data.ingest.readers.grouping import Keys, Problems
from tests.data.ingest.readers.annotated import admitted, boxes_of, jpeg


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ([1, 2, 3, 4], (2, 1, 6, 4)),
        ([0.5, 0, 1.25, 2], (0, 0.5, 2, 1.75)),
        ([1, 2, 3], boxes.BAD_BOX),
        ([1, 2, 3, None], boxes.BAD_BOX),
        ([1, 2, 3, math.nan], boxes.BAD_BOX),
        ([1, 2, 3, 10**400], boxes.BAD_BOX),
        (["1", "2", "3", "4"], (2, 1, 6, 4)),
        (["1", "2", "x", "4"], boxes.BAD_BOX),
        ("1234", boxes.BAD_BOX),
        (None, boxes.BAD_BOX),
        ({}, boxes.BAD_BOX),
    ],
)
def test_corners(box, found):
    assert boxes.corners(box) == found


def packed():
    rows = boxes.object_rows()
    rows.add(0, 1, 1, 2, 2, 4, 0.5, 0)
    rows.add(1, 0, 0, 0, 1, 1, 1, 0)
    rows.add(0, 0, *boxes.NO_BOX, math.nan, 1)
    rows.add(0, 2, 0, 0, 1, 1, 1, 0)  # of no name
    rows.add(0, 0, *boxes.BAD_BOX, math.nan, 0)
    return rows, boxes.pack(rows.deal(2), 0, ["猫", "dog", ""])


def test_objects_there_and_back():
    _, unit = packed()
    objects, why = boxes.relative(unit, b"", (4, 8), "x")
    assert why == [] and boxes_of({"objects": objects}) == [
        ("dog", [0.25, 0.25, 0.5, 0.5]),
        ("猫", None),
        ("猫", [math.inf] * 4),
    ]
    assert objects["verified_absent"] == [False, True, False] and objects["confidence"][0] == 0.5
    flat, why = admitted({"image": jpeg(), "objects": objects})
    assert why == ["bad box"] and flat["objects/label"] == ["dog", "猫", "猫"]
    assert flat["objects/bbox"][0] == [0.25, 0.25, 0.5, 0.5] and np.isnan(flat["objects/bbox"][1:]).all()


def test_objects_of_no_class_are_noted():
    rows, _ = packed()
    classes, problems = Keys(), Problems()
    for key in (7, 8, 9):
        classes.number(key)
    boxes.note_nameless(problems, rows, classes, ["猫", "dog", ""], "f")
    assert problems.take() == [["object of an unknown class", "f: class 9", "part", 1]]


@pytest.mark.parametrize(
    ("image", "annotated", "why"),
    [
        (jpeg(8, 4), (0, 0), ""),  # the header says
        (jpeg(16, 8), (4, 8), ""),  # merely resized
        (jpeg(101, 51), (200, 400), ""),  # rounded
        (b"webp", (4, 8), ""),
        (jpeg(4, 8), (4, 8), "image of another shape than annotated"),
        (jpeg(8, 3), (4, 8), "image of another shape than annotated"),
        (b"webp", (0, 8), "image size unknown"),
    ],
)
def test_whose_pixels(image, annotated, why):
    _, unit = packed()
    objects, problems = boxes.relative(unit, image, annotated, "x")
    assert [problem.reason for problem in problems] == ([why] if why else [])
    first = boxes_of({"objects": objects})[0]
    if why:
        assert first == ("dog", None)
    elif annotated == (0, 0) or annotated == (4, 8):
        assert first == ("dog", [0.25, 0.25, 0.5, 0.5])


def test_no_boxes_need_no_size():
    rows = boxes.object_rows()
    rows.add(0, 0, *boxes.NO_BOX, math.nan, 0)
    objects, problems = boxes.relative(boxes.pack(rows.deal(1), 0, ["a"]), b"", (0, 0), "x")
    assert problems == [] and objects["label"] == ["a"]
    empty, problems = boxes.relative(boxes.pack(boxes.object_rows().deal(1), 0, []), b"", (0, 0), "x")
    assert problems == [] and empty == {"label": [], "bbox": [], "confidence": [], "verified_absent": []}


@pytest.mark.parametrize(
    ("length", "side"), [(640, 640), (640.0, 640), (0, 0), (-1, 0), ("640", 0), (None, 0), (1e30, 0)]
)
def test_sides(length, side):
    assert boxes.pixels(length) == side
    assert boxes.pixels(math.nan) == 0
