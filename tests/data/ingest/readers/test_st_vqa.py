import pytest

from paligax.data.ingest.readers.st_vqa import StVqa
from tests.data.ingest.readers.annotated import put_images, put_json
from tests.data.ingest.readers.reading import read, reasons


def row(number, file, question, *answers, **other):
    folder, _, name = file.rpartition("/")
    return {
        "dataset": folder, "file_name": name, "file_path": file, "question_id": number, "question": question,
        "answers": list(answers), "set_name": "train", **other,
    }  # fmt: skip


def test_answers_of_each_picture(tmp_path):
    images = put_images(tmp_path / "train", "coco-text/a.jpg", "IIIT_STR/b.jpg")
    rows = [
        row(0, "coco-text/a.jpg", "What is the bus's number?", "66", "66", "No 66"),
        row(1, "IIIT_STR/b.jpg", "Which shop is it?", "Kwik Fit"),
        row(2, "coco-text/a.jpg", "Where does it go?", "Town"),
        {"dataset": "IIIT_STR", "file_name": "b.jpg", "question": "Really?", "answers": ["yes"]},
        row(4, "coco-text/a.jpg", "Nothing?", " "),
        row(5, "", "What?", "x", dataset="", file_name=7),
        row(6, "VizWiz/c.jpg", "Gone?", "yes"),
        "x",
    ]
    path = put_json(tmp_path / "train_task_3.json", {"data": rows, "task": 3, "version": 1.0})
    records, problems = read(StVqa(path, str(tmp_path / "train"), answers="all"))
    assert [(r["id"], r["image"] in images, r["source"]) for r in records] == [
        ("coco-text/a.jpg", True, "st_vqa"),
        ("IIIT_STR/b.jpg", True, "st_vqa"),
    ]
    asked = [(qa["question"], qa["answer"]) for qa in records[0]["qa"]]
    assert asked == [("What is the bus's number?", text) for text in ("66", "66", "No 66")] + [
        ("Where does it go?", "Town")
    ]
    assert [qa["question"] for qa in records[1]["qa"]] == ["Which shop is it?", "Really?"]
    assert sorted(reasons(problems)) == [
        "empty answer", "image missing", "question without answers", "question without image or text",
        "question without image or text",
    ]  # fmt: skip
    (first, _), _ = read(StVqa(path, str(tmp_path / "train")))
    assert [qa["answer"] for qa in first["qa"]] == ["66", "Town"]


def test_parts_divide_pictures(tmp_path):
    names = [f"coco-text/{i}.jpg" for i in range(80)]
    put_images(tmp_path, *names)
    path = put_json(tmp_path / "t.json", {"data": [row(i, name, "What?", "it") for i, name in enumerate(names * 2)]})
    parts = {
        part: [r["id"] for r in read(StVqa(path, str(tmp_path), part=part))[0]] for part in ("train", "validation")
    }
    assert sorted(parts["train"] + parts["validation"]) == sorted(names)
    assert 2 <= len(parts["validation"]) <= 16
    with pytest.raises(ValueError, match="expected an object with 'data'"):
        list(StVqa(put_json(tmp_path / "x.json", {"questions": []}), "").units())


def test_a_test_set_has_questions_alone(tmp_path):
    put_images(tmp_path, "a.jpg")
    rows = [{"file_path": "test/a.jpg", "question": "What?", "question_id": 1}]
    records, problems = read(StVqa(put_json(tmp_path / "t.json", {"data": rows}), str(tmp_path)))
    assert [qa["answer"] for qa in records[0]["qa"]] == [""] and not problems
