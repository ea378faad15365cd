import io

import numpy as np
import pytest
from PIL import Image

from paligax import image as image_lib
from paligax.data.ingest.reader import Problem
from paligax.data.ingest.readers import boxes, pictures
from paligax.data.ingest.readers.grouping import Problems
from tests.data.ingest.readers.annotated import jpeg, put_images


def test_the_first_file_that_is_there(tmp_path):
    first, second = put_images(tmp_path, "sub/b.jpg", "c.jpg")
    assert pictures.find_image(str(tmp_path), ["a.jpg", "sub/b.jpg", "c.jpg"]) == first
    assert pictures.find_image(str(tmp_path), ["c.jpg"]) == second
    (tmp_path / "empty.jpg").touch()
    assert pictures.find_image(str(tmp_path), ["empty.jpg", "c.jpg"]).reason == "image empty"
    assert pictures.find_image(str(tmp_path), ["../c.jpg", "c.jpg"]).reason == "bad file name"
    missing = pictures.find_image(str(tmp_path), ["x/y.jpg", "y.jpg"])
    assert missing == Problem("image missing", f"{tmp_path}/x/y.jpg")
    assert pictures.find_image(str(tmp_path), []).reason == "bad file name"


def test_names_get_shorter():
    assert pictures.shorter("images/v1/patch8/a.jpg") == [
        "images/v1/patch8/a.jpg",
        "v1/patch8/a.jpg",
        "patch8/a.jpg",
        "a.jpg",
    ]
    assert pictures.shorter("val2014\\a.jpg") == ["val2014\\a.jpg", "val2014/a.jpg", "a.jpg"]
    assert pictures.shorter("a.jpg") == ["a.jpg"] and len(pictures.shorter("a/" * 10_000)) < 10


def test_cocos_names():
    names = pictures.coco_names(42, ["test2015"])
    assert names[:2] == ["COCO_test2015_000000000042.jpg", "test2015/COCO_test2015_000000000042.jpg"]
    assert names[2:4] == ["000000000042.jpg", "train2017/000000000042.jpg"]


HEADER = "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5"
HEADER += ",Thumbnail300KURL,Rotation"


def test_rotations_of_the_published_table(tmp_path):
    row = '{},train,u,l,c,p,"Smith, J.","A ""fine""\nday",1,m==,t,{}'
    turns = {"a": "90.0", "b": "0.0", "c": "", "d": "nan", "e": "270", "f": "45", "g": "180.0"}
    path = tmp_path / "r.csv"
    path.write_text("\n".join([HEADER, *(row.format(*one) for one in turns.items()), "short,row"]) + "\n")
    problems = Problems()
    assert pictures.read_rotations(str(path), problems) == {"a": 90, "e": 270, "g": 180}
    assert [reason for reason, *_ in problems.take()] == [
        "rotation is not a right angle",
        "table row of another length",
    ]
    assert pictures.read_rotations("", problems) == {}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_an_image_and_its_boxes_turn_together(kind, degrees):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[8:16, 16:64] = 255  # ymin .2, xmin .2, ymax .4, xmax .8
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    upright = pictures.upright(out.getvalue(), degrees, "x")
    turned = image_lib.decode(upright)
    assert turned.shape == ((80, 40, 3) if degrees != 180 else (40, 80, 3))
    assert upright[:4] == out.getvalue()[:4]
    (box,) = boxes.turned(np.array([[0.2, 0.2, 0.4, 0.8]]), degrees)
    ymin, xmin, ymax, xmax = np.round(box * [*turned.shape[:2], *turned.shape[:2]]).astype(int)
    white = np.zeros(turned.shape[:2], bool)
    white[ymin:ymax, xmin:xmax] = True
    np.testing.assert_array_equal(turned[..., 0] > 128, white)


def test_what_cannot_be_turned():
    assert pictures.upright(b"any", 0, "x") == b"any"
    assert pictures.upright(jpeg()[:40], 90, "x") == Problem("broken image", "x")
    assert pictures.upright(b"GIF89a", 90, "x") == Problem("broken image", "x")


def test_counterclockwise():
    # The right half is white: after a quarter turn counterclockwise, the upper half.
    assert image_lib.decode(pictures.upright(jpeg(32, 16), 90, "x"))[2, 8, 0] > 200


def test_cocos_images_are_found_above_their_folders_too():
    assert pictures.published_names("COCO_val2014_000000000042.jpg") == [
        "COCO_val2014_000000000042.jpg",
        "val2014/COCO_val2014_000000000042.jpg",
    ]
    names = pictures.published_names("000000000042.jpg")
    assert names[0] == "000000000042.jpg" and {"train2017/000000000042.jpg", "val2017/000000000042.jpg"} < set(names)
    assert pictures.published_names("images/v1/a.jpg") == pictures.shorter("images/v1/a.jpg")
