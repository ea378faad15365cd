import io
import pathlib
import pickle
import sys
import types

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from paligax.data import records
from paligax.data.ingest import languages, ocr
from paligax.data.ingest.languages import IdentifyLanguages
from paligax.data.ingest.ocr import ReadText


def font(size):
    import matplotlib

    return ImageFont.truetype(str(pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def picture(words, width=480, height=240):
    """PNG of black words on white, and their boxes relative to it: words is [(text, x, y, size)]."""
    image = Image.new("RGB", (width, height), "white")
    draw, boxes = ImageDraw.Draw(image), []
    for text, x, y, size in words:
        draw.text((x, y), text, fill="black", font=font(size))
        xmin, ymin, xmax, ymax = draw.textbbox((x, y), text, font=font(size))
        boxes.append([ymin / height, xmin / width, ymax / height, xmax / width])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue(), boxes


def overlap(a, b):
    """Intersection over union of two boxes."""
    inner = [max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])]
    area = lambda box: max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])  # noqa: E731
    return area(inner) / (area(a) + area(b) - area(inner))


@pytest.fixture
def engine(monkeypatch):
    """A reader that gives what it is told to, and a detector that says English; notes the images."""
    module = types.ModuleType("an_engine")
    module.strings, module.images = [], []

    def read(image):
        module.images.append(image)
        if isinstance(module.strings, Exception):
            raise module.strings
        return module.strings

    module.read, module.detect = read, lambda text: ("en", 0.9)
    monkeypatch.setitem(sys.modules, "an_engine", module)
    ocr._reader.cache_clear()
    languages._detector.cache_clear()
    yield module
    ocr._reader.cache_clear()
    languages._detector.cache_clear()


def stage(**changes):
    return ReadText(reader="an_engine:read", languages=IdentifyLanguages(detector="an_engine:detect"), **changes)


def test_boxes_become_relative_and_unsure_strings_are_left_out(engine):
    engine.strings = [
        ("NO  PARKING\n", (12, 48, 24, 96), 0.9),
        ("blurred", (0, 0, 5, 5), 0.49),
        ("", (0, 0, 5, 5), 0.9),
        ("出口", (-3, 400, 250, 500), 0.5),
    ]
    record = records.flatten({"image": picture([])[0]})
    assert stage().apply([record]) == [""]
    assert record["ocr/text"] == ["NO PARKING", "出口"]
    np.testing.assert_allclose(record["ocr/bbox"], [[0.05, 0.1, 0.1, 0.2], [0, 400 / 480, 1, 1]])
    assert record["ocr/lang"] == ["en", "und"]
    assert records.check(record) == ""
    assert engine.images[0].shape == (240, 480, 3) and engine.images[0].dtype == np.uint8


def test_the_surest_are_kept_in_reading_order(engine):
    engine.strings = [(name, (0, 0, 1, 1), sure) for name, sure in zip("abcd", (0.6, 0.9, 0.7, 0.8), strict=True)]
    record = records.flatten({"image": picture([])[0]})
    stage(max_strings=2).apply([record])
    assert record["ocr/text"] == ["b", "d"]


def test_records_with_strings_and_without_picture_are_left_as_they_are(engine):
    engine.strings = [("new", (0, 0, 1, 1), 0.9)]
    known = {"image": picture([])[0], "ocr": [{"lang": "de", "text": "alt", "bbox": [0, 0, 1, 1]}]}
    made = [records.flatten(known), records.flatten({"text": "only text"})]
    assert stage().apply(made) == ["", ""]
    assert [r["ocr/text"] for r in made] == [["alt"], []] and not engine.images
    assert stage(only_missing=False).apply(made) == ["", ""]
    assert [r["ocr/text"] for r in made] == [["new"], []]


def test_what_fails_is_removed_with_its_reason(engine):
    made = [records.flatten({"image": data}) for data in (b"\xff\xd8\xff cut", picture([])[0])]
    engine.strings = RuntimeError("the engine's own trouble")
    assert stage().apply(made) == ["broken image", "reading text failed"]
    for box in ((0, 0, 1), (0, 0, float("nan"), 1), (5, 0, 1, 1), "box!", None):
        engine.strings = [("a", box, 0.9)]
        assert stage().apply([made[1]]) == ["reading text failed"]


def test_no_letter_stands_in_a_few_pixels(engine):
    record = records.flatten({"image": picture([], width=7, height=90)[0]})
    assert stage().apply([record]) == [""] and not engine.images and record["ocr/text"] == []


def test_it_pickles_small_and_names_what_is_missing(engine):
    own = stage()
    own.setup()
    assert pickle.loads(pickle.dumps(own)) == own and len(pickle.dumps(own)) < 600
    with pytest.raises(ValueError, match="did you mean 'read'"):
        ReadText(reader="an_engine:reed").setup()


def test_rapidocr_reads_words_where_they_stand():
    pytest.importorskip("rapidocr_onnxruntime")
    image, boxes = picture([("PARKING", 40, 30, 48), ("Opening hours 9 - 17", 60, 150, 30)])
    record = records.flatten({"image": image})
    own = ReadText(languages=IdentifyLanguages(detector="tests.data.ingest.test_ocr:english"))
    own.setup()
    assert own.apply([record]) == [""]
    assert [text.replace(" ", "") for text in record["ocr/text"]] == ["PARKING", "Openinghours9-17"]
    for got, expected in zip(record["ocr/bbox"], boxes, strict=True):
        assert overlap(got, expected) > 0.6
    assert record["ocr/lang"] == ["en", "en"]
    empty = records.flatten({"image": picture([])[0]})
    assert own.apply([empty]) == [""] and empty["ocr/text"] == []


def test_rapidocr_is_given_blue_first():
    """A colour that is no colour's opposite: the engine sees what OpenCV would have read."""
    seen = []
    original = ocr._rapidocr
    ocr._rapidocr = lambda: lambda image: (seen.append(image), (None, None))[1]
    try:
        ocr.rapidocr(np.full((32, 32, 3), (1, 2, 3), np.uint8))
    finally:
        ocr._rapidocr = original
    assert seen[0][0, 0].tolist() == [3, 2, 1] and seen[0].flags.c_contiguous


def english(text):
    return "en", 1.0
