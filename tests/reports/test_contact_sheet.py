import dataclasses

import numpy as np
import pytest
from PIL import Image

from paligax.batch import TextBatch
from paligax.inference.shown import Box
from paligax.reports import contact_sheet
from paligax.reports.contact_sheet import CELL, GAP, Sample
from paligax.vocabulary import ByteVocabulary

RED = np.full((8, 8, 3), (200, 0, 0), np.uint8)


def test_sheet_shows_pictures_side_by_side_and_texts_below(tmp_path):
    samples = [
        Sample("vqa", "Answer in EN: what? <extra_id_0>", "Катя & 猫 <b>", RED, (Box("box", 0.5, 0.5, 1.0, 1.0),)),
        Sample("span_corruption", "a " * 400, "", note="weight 0: empty text"),
        Sample("vqa", "p", "t", np.full((8, 16, 3), (0, 0, 200), np.uint8)),
    ]
    html, png = contact_sheet.write_contact_sheet(tmp_path / "sheet.png", samples, title="mini", columns=2)
    assert (html.name, png.name) == ("sheet.html", "sheet.png") and len(list(tmp_path.iterdir())) == 2
    sheet = np.asarray(Image.open(png))
    assert sheet.shape[1] == GAP + 2 * (CELL + GAP)
    assert tuple(sheet[60 + 20, GAP + 20]) == (200, 0, 0)  # the first picture, enlarged without smoothing
    assert tuple(sheet[60 + CELL // 2 - 1, GAP + CELL // 2 - 1]) == (200, 0, 0)
    inside_box = sheet[60 + CELL // 2 : 60 + CELL, GAP + CELL // 2 : GAP + CELL]
    assert (inside_box != (200, 0, 0)).any(-1).mean() > 0.02  # its frame and label
    blue = (sheet == (0, 0, 200)).all(-1)
    assert blue.sum() > 0.9 * CELL * CELL / 2  # twice as wide as high
    text = html.read_text(encoding="utf-8")
    assert "Катя &amp; 猫 &lt;b&gt;" in text and "weight 0: empty text" in text and "vqa × 2" in text
    assert text.count("data:image/png;base64,") == 2


def test_no_samples_no_sheet(tmp_path):
    with pytest.raises(ValueError, match="at least one sample"):
        contact_sheet.write_contact_sheet(tmp_path / "sheet", [], title="mini")


def test_long_words_are_cut_and_long_texts_end(tmp_path):
    font = contact_sheet._font(13)
    lines = contact_sheet._wrap("x" * 200, font, 100, 6)
    assert len(lines) == 6 and all(font.getlength(line) <= 110 for line in lines) and lines[-1].endswith("…")
    assert contact_sheet._wrap("two words", font, 400, 6) == ["two words"]
    assert contact_sheet._wrap("", font, 400, 6) == ["(empty)"]


def test_samples_of_a_batch():
    vocabulary = ByteVocabulary()
    shapes = TextBatch.abstract(batch_size=3, resolution=4, input_length=40, target_length=10)
    batch = TextBatch(**{f.name: np.zeros(getattr(shapes, f.name).shape, getattr(shapes, f.name).dtype)
                         for f in dataclasses.fields(shapes)})  # fmt: skip
    for row, (prompt, target) in enumerate([("what? <extra_id_0>", "cat"), ("a <extra_id_0> b", "c"), ("", "")]):
        for array, text in ((batch.inputs, prompt), (batch.targets, target)):
            ids = [*vocabulary.encode(text), 1]
            array[row, : len(ids)] = ids
    batch.weights[:2] = 1
    batch.image_mask[0] = True
    batch.task[1] = 1
    samples = contact_sheet.samples_of(batch, ("vqa", "text"), vocabulary)
    assert [(s.task, s.prompt, s.target, s.note) for s in samples] == [
        ("vqa", "what? <extra_id_0>", "cat", ""),
        ("text", "a <extra_id_0> b", "c", ""),
        ("vqa", "", "", "weight 0"),
    ]
    assert samples[0].image.shape == (4, 4, 3) and samples[1].image is None
    assert contact_sheet.samples_of(batch, ("vqa", "text"), vocabulary, ["", "", "empty text"])[2].note == "empty text"
