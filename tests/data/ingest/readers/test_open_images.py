import math

import numpy as np
import pytest

from paligax import image as image_lib
from paligax.data.ingest.readers.open_images import OpenImages
from tests.data.ingest.readers.annotated import admitted, boxes_of, put_images
from tests.data.ingest.readers.reading import read, reasons

# V4's header; V6's has eight more columns.
BOXES = """\
ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside
000002b66c9c498e,xclick,/m/01g317,1,0.25,0.75,0.125,0.5,0,1,0,0,0
000002b66c9c498e,xclick,/m/01g317,1,0.0,1.0,0.5,1.0,0,1,1,0,0
000002b97e5471a0,activemil,/m/0c9ph5,1,0,1.004,0,0.5,0,0,0,0,0
000002b66c9c498e,xclick,/m/0unknown,1,0,1,0,1,0,1,0,0,0
000002b66c9c498e,freeform,/m/0c9ph5,1,zero,1,0,1,0,0,0,0,0
000002b66c9c498e,xclick,/m/0c9ph5,1,nan,1,0,1,0,0,0,0,0
000002b66c9c498e,xclick,/m/0c9ph5,1,0.1
,xclick,/m/0c9ph5,1,0,1,0,1,0,0,0,0,0
"""
LABELS = """\
ImageID,Source,LabelName,Confidence
000002b66c9c498e,verification,/m/01g317,1
000002b66c9c498e,verification,/m/07j7r,1
000002b66c9c498e,crowdsource-verification,/m/07j7r,1
000002b66c9c498e,verification,/m/01kcnl,0
000002b66c9c498e,verification,/m/01kcnl,0
000002b66c9c498e,verification,/m/0c9ph5,0
0000000000000abc,machine,/m/07j7r,0.6
0000000000000abc,machine,/m/01kcnl,0.3
0000000000000abc,verification,/m/01g317,
00000000000dead0,verification,/m/01g317,0
"""
CLASSES = '/m/01g317,Person\n/m/0c9ph5,Flower\n/m/07j7r,Tree\n/m/01kcnl,"Birthday, cake"\n/m/07j7r,Twice\n/m/0zzz\n'


@pytest.fixture
def folder(tmp_path):
    put_images(tmp_path / "images", "000002b66c9c498e.jpg", "train_0/000002b97e5471a0.jpg", "test/0000000000000abc.jpg")
    for name, text in {"boxes": BOXES, "labels": LABELS, "classes": CLASSES}.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return tmp_path


def reader(folder, **fields):
    files = {name: str(folder / f"{name}.csv") for name in ("boxes", "labels", "classes")}
    return OpenImages(**{"images": str(folder / "images"), **files, **fields})


def test_boxes_labels_and_absent_classes(folder):
    records, problems = read(reader(folder))
    assert [r["id"] for r in records] == ["000002b66c9c498e", "000002b97e5471a0", "0000000000000abc"]
    assert boxes_of(records[0]) == [
        ("Person", [0.125, 0.25, 0.5, 0.75]),
        ("Person", None),  # a group
        ("Flower", [math.inf] * 4),
        ("Flower", [math.inf] * 4),
        ("Tree", None),
        ("Birthday, cake", None),
    ]
    objects = records[0]["objects"]
    assert objects["verified_absent"] == [False] * 5 + [True]
    np.testing.assert_array_equal(objects["confidence"], [1, 1, np.nan, 1, 1, 1])
    assert boxes_of(records[1]) == [("Flower", [0, 0, 0.5, 1.004])]
    assert boxes_of(records[2]) == [("Tree", None)]
    assert records[2]["objects"]["confidence"] == [pytest.approx(0.6)]
    flat, why = admitted(records[1])
    assert why == [] and flat["objects/bbox"] == [[0, 0, 0.5, 1]] and flat["source"] == "open_images"
    assert admitted(records[0])[1] == ["bad box", "bad box"]
    files = {name: folder / f"{name}.csv" for name in ("boxes", "labels", "classes")}
    assert sorted(problems) == sorted(
        [
            ("class without name or named twice", f"{files['classes']}:5"),
            ("class without name or named twice", f"{files['classes']}:6"),
            ("table row of another length", f"{files['boxes']}:8"),
            ("box without image or class", f"{files['boxes']}:9"),
            ("label below the least confidence", f"{files['labels']}:9"),
            ("label without image, class or confidence", f"{files['labels']}:10"),
            ("object of an unknown class", f"{files['boxes']}: class /m/0unknown"),
            ("class both present and absent", f"{files['labels']}: image 000002b66c9c498e"),
            ("image missing", f"{folder}/images/00000000000dead0.jpg"),
        ]
    )


def test_a_group_as_a_box_and_unsure_labels(folder):
    records, problems = read(reader(folder, groups="box", least_confidence=0.1))
    assert boxes_of(records[0])[1] == ("Person", [0.5, 0.0, 1.0, 1.0])
    assert boxes_of(records[2]) == [("Tree", None), ("Birthday, cake", None)]
    assert "label below the least confidence" not in reasons(problems)


def test_only_boxes_or_only_labels(folder):
    records, _ = read(reader(folder, labels=""))
    assert [len(r["objects"]["label"]) for r in records] == [4, 1]
    records, _ = read(reader(folder, boxes=""))
    assert records[0]["objects"]["label"] == ["Person", "Tree", "Birthday, cake", "Flower"]
    assert records[0]["objects"]["verified_absent"] == [False, False, True, True]
    with pytest.raises(ValueError, match="needs boxes or labels"):
        list(reader(folder, boxes="", labels="").units())


def test_images_on_their_side_are_turned_with_their_boxes(folder):
    (folder / "r.csv").write_text(
        "ImageID,Subset,Title,Rotation\n"
        '000002b66c9c498e,train,"a, ""title""",90.0\n000002b97e5471a0,train,b,0.0\n0000000000000abc,train,c,nan\n'
    )
    records, problems = read(reader(folder, rotations=str(folder / "r.csv")))
    assert image_lib.size(records[0]["image"]) == (8, 4)
    assert boxes_of(records[0])[0] == ("Person", [0.25, 0.125, 0.75, 0.5])
    assert image_lib.size(records[1]["image"]) == (4, 8) and boxes_of(records[1])[0][1] == [0, 0, 0.5, 1.004]
    assert admitted(records[0])[1] == ["bad box", "bad box"]


def test_v6_and_v7_headers(folder):
    header, *rows = BOXES.splitlines()
    clicks = [f"XClick{i}{side}" for side in "XY" for i in range(1, 5)]
    text = "\n".join([",".join([header, *clicks]), *(row + ",0.1" * 8 for row in rows[:2])])
    (folder / "boxes.csv").write_text(text)
    (folder / "classes.csv").write_text("LabelName,DisplayName\n" + CLASSES)
    records, _ = read(reader(folder, labels=""))
    assert boxes_of(records[0]) == [("Person", [0.125, 0.25, 0.5, 0.75]), ("Person", None)]


def test_files_of_another_kind(folder):
    (folder / "boxes.csv").write_text("ImageId,LabelName\n")
    with pytest.raises(ValueError, match="no column 'ImageID'; did you mean 'ImageId'"):
        list(reader(folder).units())
    with pytest.raises(ValueError, match="names no classes"):
        (folder / "empty.csv").write_text("")
        list(reader(folder, classes=str(folder / "empty.csv")).units())
    with pytest.raises(ValueError, match=r"'boxes' is not known; did you mean 'box'\? Choose one of label \| box"):
        list(reader(folder, groups="boxes").units())
    with pytest.raises(FileNotFoundError):
        list(reader(folder, labels="/nowhere.csv").units())
