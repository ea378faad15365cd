import pytest

from paligax import image as image_lib
from paligax.data.ingest.readers import vqa
from paligax.data.ingest.readers.grouping import Problems
from paligax.data.ingest.readers.vqa import TextVqa, VizWizVqa, Vqa2
from tests.data.ingest.readers.annotated import admitted, put_images, put_json
from tests.data.ingest.readers.reading import read, reasons

TEN = ["net", "net", "net", "netting", "net", "mesh", "net", "net", "net", "net"]


def pairs(record):
    return [(qa["question"], qa["answer"]) for qa in record["qa"]]


def test_which_answers():
    assert vqa.chosen("q", None, "mode") == vqa.chosen("q", None, "all") == [["q", ""]]
    assert vqa.chosen("q", ["b", "a", "a", "b"], "mode") == [["q", "b"]]
    assert vqa.chosen("q", ["b", "a", "a", "b"], "all") == [["q", "b"], ["q", "a"], ["q", "a"], ["q", "b"]]
    assert vqa.chosen("q", [], "mode") == []
    problems = Problems()
    assert vqa.texts_of(["a", {"answer": "b"}, {"raw": "c"}, 5, " ", None], "answer", problems, "x") == ["a", "b"]
    assert [r for r, *_ in problems.take()] == [
        "answer is no text",
        "answer is no text",
        "empty answer",
        "answer is no text",
    ]
    assert vqa.texts_of("one", "answer", problems, "x") == ["one"]


# ------------------------------------------------------------------------------------------------------------ VQAv2


def questions(subset, *asked):
    return {
        "info": {"description": "VQA", "version": "2.0"},
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        "license": {"url": "u", "name": "n"},
        "data_subtype": subset,
        "questions": [{"image_id": i, "question": q, "question_id": n} for i, q, n in asked],
    }


def annotation(number, image_id, *answers, **other):
    return {
        "question_type": "what is this",
        "multiple_choice_answer": "net",
        "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": i + 1} for i, a in enumerate(answers)],
        "image_id": image_id,
        "answer_type": "other",
        "question_id": number,
        **other,
    }


ASKED = [
    (458752, "What is this photo taken looking through?", 458752000),
    (262146, "¿Qué es?", 262146000),
    (458752, "What color?", 458752001),
    (458752, "Unanswered?", 458752002),
    (262146, "Only one answer?", 262146001),
    ("../1", "?", 1),
    (5, None, 2),
]
ANNOTATIONS = {
    "info": {},
    "data_subtype": "train2014",
    "annotations": [
        annotation(262146000, 262146, *["猫"] * 6, *["cat"] * 4),
        annotation(458752000, 458752, *TEN),
        annotation(458752001, 458752, "red", "", "red"),
        annotation(262146001, 262146, answers=None),
        annotation(77, 77, "nobody asked"),
        {"answers": []},
    ],
}
FILES = ["COCO_train2014_000000458752.jpg", "COCO_train2014_000000262146.jpg"]


@pytest.fixture
def folder(tmp_path):
    put_images(tmp_path, *FILES)
    put_json(tmp_path / "q.json", questions("train2014", *ASKED))
    put_json(tmp_path / "a.json", ANNOTATIONS)
    return tmp_path


def vqav2(folder, **fields):
    files = {"questions": str(folder / "q.json"), "annotations": str(folder / "a.json"), "images": str(folder)}
    return Vqa2(**{**files, **fields})


def test_vqav2_with_the_most_frequent_answer(folder):
    records, problems = read(vqav2(folder))
    assert [r["id"] for r in records] == ["458752", "262146"]
    assert pairs(records[0]) == [(ASKED[0][1], "net"), ("What color?", "red")]
    assert pairs(records[1]) == [("¿Qué es?", "猫"), ("Only one answer?", "net")]
    flat, why = admitted(records[1])
    assert why == [] and flat == {
        "id": "262146",
        "image": records[1]["image"],
        "source": "vqav2",
        "qa/lang": ["en", "en"],
        "qa/question": ["¿Qué es?", "Only one answer?"],
        "qa/answer": ["猫", "net"],
    }
    assert problems == [
        ("empty answer", f"{folder}/a.json: annotations 2"),
        ("answers without question", f"{folder}/a.json: annotations 5"),
        ("question without answers", f"{folder}/q.json: questions 3"),
        ("question without image or text", f"{folder}/q.json: questions 5"),
        ("question without image or text", f"{folder}/q.json: questions 6"),
        ("answers without question", f"{folder}/a.json: question_id 77"),
        ("image missing", f"{folder}/COCO_train2014_000000000005.jpg"),
    ]


def test_vqav2_with_all_answers(folder):
    records, _ = read(vqav2(folder, answers="all", lang="de"))
    assert pairs(records[0]) == [
        *((ASKED[0][1], answer) for answer in TEN),
        ("What color?", "red"),
        ("What color?", "red"),
    ]
    assert {qa["lang"] for qa in records[0]["qa"]} == {"de"}


def test_a_test_set_has_questions_only(tmp_path):
    put_images(tmp_path, "test2015/COCO_test2015_000000000001.jpg")
    path = put_json(tmp_path / "q.json", questions("test-dev2015", (1, "Is it?", 10), (1, "Why?", 11)))
    records, problems = read(Vqa2(questions=path, images=str(tmp_path)))
    assert problems == [] and pairs(records[0]) == [("Is it?", ""), ("Why?", "")]
    assert admitted(records[0])[0]["qa/answer"] == ["", ""]


def test_images_of_2017_and_a_missing_subtype(folder):
    value = questions("train2014", ASKED[0])
    del value["data_subtype"]
    put_json(folder / "q.json", value)
    with pytest.raises(ValueError, match="data_subtype: give subset, like train2014"):
        list(vqav2(folder).units())
    (folder / FILES[0]).rename(folder / "000000458752.jpg")
    records, _ = read(vqav2(folder, subset="train2014"))
    assert pairs(records[0]) == [(ASKED[0][1], "net")]


def test_okvqa_has_raw_and_stemmed_answers(tmp_path):
    put_images(tmp_path, "COCO_val2014_000000297147.jpg")
    q = put_json(tmp_path / "q.json", questions("val2014", (297147, "What sport can you use this for?", 2971475)))
    answers = [
        {"answer_id": i, "raw_answer": r, "answer_confidence": "yes", "answer": a}
        for i, (r, a) in enumerate([("racing", "race"), ("racing", "race"), ("motocross", "motocross")])
    ]
    row = {"answers": answers, "question_type": "four", "image_id": 297147, "question_id": 2971475, "confidence": 3}
    a = put_json(tmp_path / "a.json", {"annotations": [row]})
    for field, answer in (("answer", "race"), ("raw_answer", "racing")):
        reader = Vqa2(questions=q, annotations=a, images=str(tmp_path), answer_field=field, source="okvqa")
        records, problems = read(reader)
        assert problems == [] and pairs(records[0]) == [("What sport can you use this for?", answer)]
        assert records[0]["source"] == "okvqa"


@pytest.mark.parametrize("cls", [Vqa2, TextVqa, VizWizVqa])
def test_wrong_options_and_files(tmp_path, cls):
    name = "questions" if cls is Vqa2 else "path"
    with pytest.raises(ValueError, match=r"answers='most' is not known; choose one of mode \| all"):
        list(cls(**{name: "x", "images": "y"}, answers="most").units())
    with pytest.raises(FileNotFoundError):
        list(cls(**{name: "/nowhere.json", "images": "y"}).units())
    with pytest.raises(ValueError, match="has no questions"):
        list(cls(**{name: put_json(tmp_path / "a.json", {"images": [1]}), "images": "y"}).units())
    (tmp_path / "a.json").write_text('{"questions": [{"image_id": 1')
    with pytest.raises(ValueError, match="not a whole JSON file"):
        list(cls(**{name: str(tmp_path / "a.json"), "images": "y"}).units())


def test_annotations_of_another_kind(folder):
    put_json(folder / "a.json", {"questions": []})
    with pytest.raises(ValueError, match="a.json' has no answers"):
        list(vqav2(folder).units())


# ---------------------------------------------------------------------------------------------------------- TextVQA


def textvqa(number, image_id, question, answers):
    row = {
        "question": question,
        "image_id": image_id,
        "image_classes": ["Belt", "Headphones"],
        "flickr_original_url": "u",
        "flickr_300k_url": "u",
        "image_width": 8,
        "image_height": 4,
        "question_tokens": [],
        "question_id": number,
        "set_name": "train",
    }
    return row | ({"answers": answers} if answers is not None else {})


def test_textvqa(tmp_path):
    put_images(tmp_path, "train_images/0054c91397f2fe05.jpg", "0685f6a9f9cb0d4c.jpg")
    data = [
        textvqa(0, "0054c91397f2fe05", "what is the brand of phone?", ["nokia"] * 9 + ["toshiba"]),
        textvqa(3, "0685f6a9f9cb0d4c", "what does it say?", None),
        textvqa(4, "0054c91397f2fe05", "nothing?", [" "]),
        textvqa(5, "0054c91397f2fe05", "which n°?", ["5", "7", "7"]),
        textvqa(6, "cut", "?", ["x"]),
        textvqa(7, "", "?", ["x"]),
        "no object",
    ]
    value = {"dataset_type": "train", "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": data}
    path = put_json(tmp_path / "TextVQA_0.5.1_train.json", value)
    (tmp_path / "r.csv").write_text("ImageID,Rotation\n0054c91397f2fe05,270.0\n")
    records, problems = read(TextVqa(path=path, images=str(tmp_path), rotations=str(tmp_path / "r.csv")))
    assert [(r["id"], pairs(r)) for r in records] == [
        ("0054c91397f2fe05", [("what is the brand of phone?", "nokia"), ("which n°?", "7")]),
        ("0685f6a9f9cb0d4c", [("what does it say?", "")]),
    ]
    assert [image_lib.size(r["image"]) for r in records] == [(8, 4), (4, 8)]
    assert reasons(problems) == [
        "empty answer",
        "question without answers",
        "question without image or text",
        "question without image or text",
        "image missing",
    ]


# ----------------------------------------------------------------------------------------------------------- VizWiz


def vizwiz(image, question, *answers, **other):
    given = [{"answer": a, "answer_confidence": "yes"} for a in answers]
    return {"image": image, "question": question} | ({"answers": given, **other} if answers else {})


ROWS = [
    vizwiz(
        "VizWiz_train_00000000.jpg", "What's the name of this product?", "basil leaves", "basil", "basil", answerable=1
    ),
    vizwiz(
        "VizWiz_train_00000001.jpg", "Can you tell me?", "", "unanswerable", answer_type="unanswerable", answerable=0
    ),
    vizwiz("VizWiz_train_00000002.jpg", "Test?"),
    vizwiz("missing.jpg", "?", "x"),
]


@pytest.mark.parametrize("columns", [False, True])
def test_vizwiz_in_rows_and_in_columns(tmp_path, columns):
    put_images(tmp_path, *(row["image"] for row in ROWS[:3]))
    value = ROWS
    if columns:
        names = ("image", "question", "answers")
        value = {name: {str(i): row[name] for i, row in enumerate(ROWS) if name in row} for name in names}
    path = put_json(tmp_path / "train.json", value)
    records, problems = read(VizWizVqa(path=path, images=str(tmp_path), unit_size=3))
    assert [(r["id"], pairs(r)) for r in records] == [
        ("VizWiz_train_00000000.jpg", [("What's the name of this product?", "basil")]),
        ("VizWiz_train_00000001.jpg", [("Can you tell me?", "unanswerable")]),
        ("VizWiz_train_00000002.jpg", [("Test?", "")]),
    ]
    assert problems == [("empty answer", f"{path}: 1"), ("image missing", f"{tmp_path}/missing.jpg")]
    records, _ = read(VizWizVqa(path=path, images=str(tmp_path), answers="all"))
    assert [answer for _, answer in pairs(records[0])] == ["basil leaves", "basil", "basil"]


def test_vizwiz_with_odd_rows(tmp_path):
    put_images(tmp_path, "a.jpg")
    rows = [{"image": "a.jpg"}, {"question": "?"}, 5, vizwiz("a.jpg", "One?", "1"), vizwiz("a.jpg", "Two?", "2")]
    records, problems = read(VizWizVqa(path=put_json(tmp_path / "t.json", rows), images=str(tmp_path)))
    assert pairs(records[0]) == [("One?", "1"), ("Two?", "2")] and len(records) == 1
    assert reasons(problems) == ["question without image or text"] * 3
