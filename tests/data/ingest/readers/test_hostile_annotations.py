"""Whatever stands in an annotation file: its reader gives records and problems, or says what is wrong with the file."""

import copy
import json
import random

import pytest

from paligax.data import records
from paligax.data.ingest import admission
from paligax.data.ingest.readers.coco import CocoCaptions, CocoInstances
from paligax.data.ingest.readers.crossmodal import Coco35L, Xm3600
from paligax.data.ingest.readers.open_images import OpenImages
from paligax.data.ingest.readers.visual_genome import VisualGenome
from paligax.data.ingest.readers.vq2a import Vq2a
from paligax.data.ingest.readers.vqa import TextVqa, VizWizVqa, Vqa2
from tests.data.ingest.readers import annotated
from tests.data.ingest.readers.reading import read

ODD = [None, True, -1, 0, 10**30, -(10**18), 1.5, float("nan"), float("inf"), "", "1", "x" * 3000, "猫" * 100, "²"]
ODD += ["a\0b", "\ud800", "../../etc/passwd", "/etc/passwd", "C:\\x", "%s{0}"]
ODD += [[], [[]], [None], ["a", "b"], {}, {"a": {"b": []}}]

CAPTIONS = {
    "images": [{"id": 1, "file_name": "1.jpg", "height": 4, "width": 8}, {"id": 2, "file_name": "p/2.jpg"}],
    "annotations": [{"image_id": 1, "caption": "a"}, {"image_id": 2, "caption": "b", "is_rejected": False}],
}
BOXES = {
    **CAPTIONS,
    "annotations": [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 2], "iscrowd": 0}] * 2,
    "categories": [{"id": 3, "name": "dog"}, {"id": 4, "name": "cat"}],
}
SENTENCES = [{"raw": "a"}]
KARPATHY = {"images": [{"filename": "1.jpg", "filepath": "p", "cocoid": 1, "split": "train", "sentences": SENTENCES}]}
TEXTCAPS = {"data": [{"image_id": "1", "caption_str": "a", "reference_strs": ["a", "b"]}] * 2}
TEXTVQA = {"data": [{"image_id": "1", "question": "a", "answers": ["a", "b"]}] * 2}
VIZWIZ = [{"image": "1.jpg", "question": "q", "answers": [{"answer": "a"}, {"answer": "b"}]}]
COLUMNS = {"image": {"0": "1.jpg"}, "question": {"0": "q"}, "answers": {"0": [{"answer": "a"}]}}
COCO_35L = [{"image_id": "1_0", "trg_lang": "de", "caption_tokenized": "a", "translation_tokenized": "b"}] * 2
XM3600 = [{"image/key": "1", "en": {"caption": ["a", "b"]}, "de": {"caption": ["c"]}}]
VQ2A = {"annotations": [{"image_id": "1", "qa_pairs": [{"question": "a", "answers": ["b"], "lang": "en"}, ["q", "a"]]}]}


def _json(cls):
    return lambda folder, value: cls(path=annotated.put_json(folder / "a.json", value), images=str(folder))


def _lines(cls):
    def make(folder, value):
        values = value if isinstance(value, list) else [value]
        (folder / "a.jsonl").write_text("\n".join(json.dumps(one) for one in values))
        return cls(path=str(folder / "a.jsonl"), images=str(folder))

    return make


def _vqa2(folder, value):
    value = value if isinstance(value, list) and len(value) == 2 else [value, value]
    asked, answered = (annotated.put_json(folder / f"{i}.json", one) for i, one in enumerate(value))
    return Vqa2(questions=asked, annotations=answered, images=str(folder), subset="train2014")


def _visual_genome(folder, value):
    names = ("objects", "region_descriptions", "question_answers", "image_data")
    for name in names:
        annotated.put_json(folder / f"{name}.json", value.get(name, []) if isinstance(value, dict) else value)
    return VisualGenome(images=str(folder))


def _open_images(folder, value):
    """Rows are lists of texts; anything else stands as it prints."""
    tables = value if isinstance(value, dict) else {}
    for name in ("boxes", "labels", "classes"):
        rows = tables.get(name) or [["ImageID"]]
        rows = rows if isinstance(rows, list) else [rows]
        text = "\n".join(",".join(map(str, row)) if isinstance(row, list) else str(row) for row in rows)
        (folder / f"{name}.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    files = {name: str(folder / f"{name}.csv") for name in ("boxes", "labels", "classes")}
    return OpenImages(images=str(folder), **files)


VQA2 = [
    {"questions": [{"image_id": 1, "question": "q", "question_id": 5}], "data_subtype": "train2014"},
    {"annotations": [{"question_id": 5, "answers": [{"answer": "a"}], "multiple_choice_answer": "a"}]},
]
VISUAL_GENOME = {
    "objects": [{"image_id": 1, "objects": [{"x": 1, "y": 1, "w": 2, "h": 2, "names": ["a", "b"]}]}],
    "region_descriptions": [{"id": 1, "regions": [{"phrase": "a", "image_id": 1}]}],
    "question_answers": [{"id": 1, "qas": [{"question": "q", "answer": "a", "image_id": 1}]}],
    "image_data": [{"image_id": 1, "width": 8, "height": 4, "url": "x/1.jpg"}],
}
OPEN_IMAGES = {
    "boxes": [
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf".split(","),
        "1,xclick,/m/1,1,0,0.5,0,0.5,0".split(","),
    ],
    "labels": ["ImageID,Source,LabelName,Confidence".split(","), "1,verification,/m/2,0".split(",")],
    "classes": [["/m/1", "Dog"], ["/m/2", "Cat"]],
}
SOURCES = {
    "captions": (_json(CocoCaptions), CAPTIONS),
    "karpathy": (_json(CocoCaptions), KARPATHY),
    "textcaps": (_json(CocoCaptions), TEXTCAPS),
    "boxes": (_json(CocoInstances), BOXES),
    "coco_35l": (_lines(Coco35L), COCO_35L),
    "xm3600": (_lines(Xm3600), XM3600),
    "textvqa": (_json(TextVqa), TEXTVQA),
    "vizwiz": (_json(VizWizVqa), VIZWIZ),
    "columns": (_json(VizWizVqa), COLUMNS),
    "vq2a": (_json(Vq2a), VQ2A),
    "vq2a_lines": (_lines(Vq2a), VQ2A["annotations"]),
    "vqa2": (_vqa2, VQA2),
    "visual_genome": (_visual_genome, VISUAL_GENOME),
    "open_images": (_open_images, OPEN_IMAGES),
}


def places(value, at=()):
    """Every place in a nested value, as a path of keys."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*at, key))


def changed(value, at, new):
    if not at:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = new
    return value


@pytest.mark.parametrize("source", SOURCES)
def test_odd_values_at_every_place(tmp_path, source):
    make, value = SOURCES[source]
    annotated.put_images(tmp_path, "1.jpg", "p/1.jpg", "2.jpg", "COCO_train2014_000000000001.jpg", "x/1.jpg")
    found, _ = read(make(tmp_path, value))
    assert found
    where = [(at, odd) for at in places(value) for odd in ODD]
    for at, odd in random.Random(0).sample(where, min(len(where), 60)):
        try:
            found, problems = read(make(tmp_path, changed(value, at, odd)))
        except (ValueError, FileNotFoundError) as error:
            assert len(str(error)) > 20, (at, odd)
            continue
        for record in found:
            flat, _ = admission.admit(record)
            if flat is not None:
                assert records.check(flat) == "", (at, odd)
                records.encode(flat)
        assert all(reason and where for reason, where in problems), (at, odd)
