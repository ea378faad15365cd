import math

import pytest

from paligax.data.ingest.readers.visual_genome import VisualGenome
from tests.data.ingest.readers.annotated import admitted, boxes_of, put_images, put_json
from tests.data.ingest.readers.reading import read


def described(number, folder, **other):
    url = f"https://example.org/rak248/{folder}/{number}.jpg"
    return {"width": 8, "url": url, "height": 4, "image_id": number, "coco_id": None, "flickr_id": None, **other}


def thing(x, y, w, h, *names, **other):
    return {
        "synsets": ["clock.n.01"],
        "h": h,
        "object_id": 1058498,
        "merged_object_ids": [],
        "names": list(names),
        "w": w,
        "y": y,
        "x": x,
        **other,
    }


def region(image_id, phrase):
    return {"region_id": 1, "width": 82, "height": 139, "image_id": image_id, "phrase": phrase, "y": 57, "x": 421}


def question(image_id, question, answer):
    return {
        "a_objects": [],
        "question": question,
        "image_id": image_id,
        "qa_id": 986768,
        "answer": answer,
        "q_objects": [],
    }


DATA = [described(1, "VG_100K_2"), described(713, "VG_100K"), described(5, "VG_100K"), described(1, "VG_100K"), {}]
OBJECTS = [
    {
        "image_id": 713,
        "image_url": "u",
        "objects": [thing(0, 0, 8, 4, "street"), thing(1, 1, "w", 1, "árbol"), thing(0, 0, 1, 1), "no object"],
    },
    {"image_id": 1, "image_url": "u", "objects": [thing(2, 1, 4, 2, "clock", " timepiece")]},
    {"image_id": 99, "image_url": "u", "objects": [thing(0, 0, 8, 4, "street")]},
    {"image_id": 5},
]
REGIONS = [
    {"id": 1, "regions": [region(1, "the clock is green in colour"), region(1, "sidewalk — wet"), region(1, None)]},
    {"id": 713, "regions": []},
]
QUESTIONS = [
    {"id": 1, "qas": [question(1, "What color is the clock?", "Green."), question(1, "¿Quién?", "A man.")]},
    {"id": 713, "qas": [question(713, "Where?", None)]},
]


@pytest.fixture
def folder(tmp_path):
    put_images(tmp_path / "vg", "VG_100K_2/1.jpg", "VG_100K/713.jpg")
    for name, value in {
        "objects": OBJECTS,
        "region_descriptions": REGIONS,
        "question_answers": QUESTIONS,
        "image_data": DATA,
    }.items():
        put_json(tmp_path / "annotations" / f"{name}.json", value)
    return tmp_path


def test_all_four_files(folder):
    path = folder / "annotations"
    records, problems = read(VisualGenome(images=str(folder / "vg"), path=str(path), unit_size=2))
    assert [r["id"] for r in records] == ["1", "713"]
    assert boxes_of(records[0]) == [("clock", [0.25, 0.25, 0.75, 0.75]), ("timepiece", None)]
    assert boxes_of(records[1]) == [("street", [0, 0, 1, 1]), ("árbol", [math.inf] * 4)]
    flat, why = admitted(records[0])
    assert why == [] and flat["source"] == "visual_genome"
    assert flat["alt_text/text"] == ["the clock is green in colour", "sidewalk — wet"]
    assert flat["alt_text/lang"] == flat["qa/lang"] == ["en", "en"]
    assert flat["qa/question"] == ["What color is the clock?", "¿Quién?"]
    assert flat["qa/answer"] == ["Green.", "A man."]
    assert admitted(records[1])[1] == ["bad box"] and records[1]["qa"] == []
    assert problems == [
        ("image without id", f"{path}/image_data.json 4"),
        ("object without image or name", f"{path}/objects.json: 0"),
        ("entry is no object", f"{path}/objects.json: 0"),
        ("entry without objects", f"{path}/objects.json: 3"),
        ("no image or phrase", f"{path}/region_descriptions.json: 0"),
        ("no image or question or answer", f"{path}/question_answers.json: 1"),
        ("annotation of an unknown image", f"{path}/objects.json: image 99"),
        ("image listed twice", f"{path}/image_data.json: images 3"),
        ("image missing", f"{folder}/vg/VG_100K/5.jpg"),
    ]


def test_any_file_may_be_left_out(folder):
    path = str(folder / "annotations")
    reader = VisualGenome(images=str(folder / "vg"), path=path, regions="", objects="")
    records, _ = read(reader)
    assert records[0]["objects"]["label"] == [] and records[0]["alt_text"]["text"] == []
    assert len(records[0]["qa"]) == 2
    (folder / "annotations/region_descriptions.json").unlink()
    with pytest.raises(FileNotFoundError, match="region_descriptions.json"):
        list(VisualGenome(images=str(folder / "vg"), path=path).units())


def test_annotations_beside_the_images_and_all_images_together(folder):
    for name in ("objects", "region_descriptions", "question_answers", "image_data"):
        (folder / "annotations" / f"{name}.json").rename(folder / "vg" / f"{name}.json")
    (folder / "vg/VG_100K_2/1.jpg").rename(folder / "vg/1.jpg")
    records, _ = read(VisualGenome(images=str(folder / "vg")))
    assert [r["id"] for r in records] == ["1", "713"]


def test_a_file_cut_short_or_of_another_kind(folder):
    file = folder / "annotations/question_answers.json"
    file.write_text(file.read_text()[:-20])
    reader = VisualGenome(images=str(folder / "vg"), path=str(folder / "annotations"))
    with pytest.raises(ValueError, match="not a whole JSON file"):
        list(reader.units())
    put_json(folder / "annotations/image_data.json", {"images": []})
    with pytest.raises(ValueError, match="has no images"):
        list(reader.units())
