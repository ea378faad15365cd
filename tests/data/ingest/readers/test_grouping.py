import numpy as np
import pytest

from paligax.data.ingest.reader import PART, RECORD, Problem
from paligax.data.ingest.readers import grouping
from paligax.data.ingest.readers.grouping import Keys, Problems, Rows


def test_keys_are_numbered_in_order_of_first_mention():
    keys = Keys()
    assert [keys.number(key) for key in (17, "b", "17", -3, "b")] == [0, 1, 0, 2, 1]
    assert keys.keys == ["17", "b", "-3"] and len(keys) == 3
    for key in (None, True, 1.5, "", [1], {}, "x" * 201, 10**5000, b"b"):
        assert keys.number(key) == -1
    assert len(keys) == 3


def test_rows_are_dealt_by_image_in_their_order():
    rows = Rows("tif")
    for image, text in ((2, "a"), (0, "b"), (2, "猫"), (2, ""), (5, "lone \ud800")):
        rows.add(image, text, len(text), len(text) / 2)
    dealt = rows.deal(6)
    assert [dealt.count(i) for i in range(6)] == [1, 0, 3, 0, 0, 1]
    assert dealt.rows(2) == [("a", 1, 0.5), ("猫", 1, 0.5), ("", 0, 0.0)]
    assert dealt.rows(1) == [] and dealt.rows(5) == [("lone \ud800", 6, 3.0)]
    texts, counts, halves = dealt.columns(2)
    assert texts == ["a", "猫", ""] and counts.dtype == np.int32 and halves.dtype == np.float32


def test_no_rows_at_all():
    assert [Rows("tib").deal(3).rows(i) for i in range(3)] == [[], [], []]
    assert Rows("i").deal(0).count is not None and len(Rows("t")) == 0


def test_a_million_rows_take_what_is_said():
    rows = Rows("ffff")
    for column in (rows.image, *rows._columns):
        column.extend([1] * 1000)
    assert sum(c.itemsize for c in (rows.image, *rows._columns)) == 20
    assert rows.deal(2)._order.dtype.itemsize == 8


def test_units_hold_all_images_and_all_problems():
    problems = Problems()
    problems.add("bad", "a.json: images", 7, RECORD)
    problems.note(Problem("worse", "b"))

    def images():
        for i in range(5):
            problems.add("seen late", "c", i)  # problems met while the images are dealt
            yield i
        problems.add("seen last", "d", many=3)

    found = list(grouping.units(images(), problems, 2))
    assert [unit["images"] for unit in found] == [[0, 1], [2, 3], [4]]  # none without images
    assert [one for unit in found for one in unit["problems"]] == [
        ["bad", "a.json: images 7", RECORD, 1],
        ["worse", "b", PART, 1],
        *(["seen late", f"c {i}", PART, 1] for i in range(5)),
        ["seen last", "d", PART, 3],
    ]
    assert list(grouping.problems_of(found[0]))[:2] == [
        Problem("bad", "a.json: images 7", RECORD),
        Problem("worse", "b", PART),
    ]


def test_a_million_problems_are_counted_and_a_hundred_shown():
    problems = Problems()
    for i in range(1_000_000):
        problems.add("bad", "a", i)
    problems.add("worse", "b")
    (unit,) = grouping.units(["image"], problems, 3)
    assert len(unit["problems"]) == grouping.SHOWN + 2
    found = list(grouping.problems_of(unit))
    assert sum(one.number for one in found if one.reason == "bad") == 1_000_000
    assert found[-1] == Problem("bad", "and more", PART, 1_000_000 - grouping.SHOWN)


def test_no_images_and_no_problems_are_no_unit():
    assert list(grouping.units([], Problems(), 3)) == []
    problems = Problems()
    problems.add("bad", "a")
    assert list(grouping.units([], problems, 3)) == [{"images": [], "problems": [["bad", "a", PART, 1]]}]
    with pytest.raises(ValueError, match="unit_size=0"):
        list(grouping.units([], Problems(), 0))


def test_images_listed_twice_and_never():
    keys, listed, rows, problems = Keys(), Rows("t"), Rows("t"), Problems()
    for key in ("a", "b", "a"):
        listed.add(keys.number(key), key)
    for key in ("b", "x", "x"):
        rows.add(keys.number(key), "caption")
    images, captions = listed.deal(len(keys)), rows.deal(len(keys))
    grouping.note_strangers(problems, keys, images, captions, "f")
    assert list(grouping.in_order(listed.image, len(keys), problems, "f")) == [0, 1]
    assert problems.take() == [
        ["annotation of an unknown image", "f: image x", PART, 2],
        ["image listed twice", "f: images 2", RECORD, 1],
    ]
    assert problems.take() == []
