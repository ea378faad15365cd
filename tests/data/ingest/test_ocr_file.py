import json

import numpy as np
import pytest

from paligax.data import records
from paligax.data.ingest.ocr_file import OcrOfFile

ROSETTA = {
    "data": [
        {
            "image_id": "7ff0", "ocr_tokens": ["FIRE", "5ml"],
            "ocr_info": [
                {"word": "FIRE", "bounding_box": {
                    "width": 0.25, "height": 0.125, "rotation": 0, "top_left_x": 0.5, "top_left_y": 0.75}},
                {"word": "5ml", "bounding_box": {"width": "x"}},
                {"word": 7, "bounding_box": {}},
            ],
        },
        {"image_id": "8", "ocr_tokens": ["A\0 b ", "", None], "ocr_info": []},
        {"image_id": "9", "ocr_tokens": [], "ocr_info": []},
    ]
}  # fmt: skip


def filled(path, *identities):
    stage = OcrOfFile(str(path))
    stage.setup()
    found = [records.flatten({"id": identity, "ocr": [{"text": "old"}]}) for identity in identities]
    assert stage.apply(found) == [""] * len(found)
    return found


def test_rosettas_strings_and_boxes(tmp_path):
    file = tmp_path / "TextVQA_Rosetta_OCR_v0.2_val.json"
    file.write_text(json.dumps(ROSETTA))
    first, second, third, other = filled(file, "7ff0", "8", "9", "10")
    assert first["ocr/text"] == ["FIRE", "5ml"] and first["ocr/lang"] == ["und", "und"]
    assert first["ocr/bbox"][0] == [0.75, 0.5, 0.875, 0.75] and np.isnan(first["ocr/bbox"][1]).all()
    assert second["ocr/text"] == ["A b"]
    assert third["ocr/text"] == other["ocr/text"] == ["old"]


def test_lines_of_ones_own(tmp_path):
    file = tmp_path / "read.jsonl"
    file.write_text('{"id": 5, "strings": ["one", "two"]}\nnot json\n')
    (record,) = filled(file, "5")
    assert record["ocr/text"] == ["one", "two"]


def test_another_file_is_refused(tmp_path):
    file = tmp_path / "x.json"
    file.write_text('{"images": [{"id": 1}]}')
    with pytest.raises(ValueError, match="has no OCR strings"):
        OcrOfFile(str(file)).setup()
    with pytest.raises(FileNotFoundError, match="No file"):
        OcrOfFile("nowhere.json").setup()
