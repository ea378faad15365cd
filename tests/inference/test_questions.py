import io
import json

import numpy as np
import pytest
from PIL import Image

from paligax.inference import questions


def png(value=7):
    data = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(data, "png")
    return data.getvalue()


def write(path, value):
    path.write_text(json.dumps(value) if path.suffix == ".json" else "\n".join(map(json.dumps, value)))
    return path


@pytest.mark.parametrize(
    "value, ids, files",
    [
        (
            {"data_subtype": "test-dev2015", "questions": [{"question_id": 9, "image_id": 5, "question": "what?"}]},
            [9],
            ["COCO_test2015_000000000005.jpg"],
        ),
        ({"data": [{"question_id": 3, "image_id": "ab", "question": "what?"}]}, [3], ["train_images/ab.jpg"]),
        ({"data": [{"question_id": 3, "file_path": "coco/a.jpg", "question": "what?"}]}, [3], ["coco/a.jpg"]),
        ({"12": {"imageId": "n1", "question": "what?"}}, ["12"], ["images/n1.jpg"]),
        ([{"image": "VizWiz_test_1.jpg", "question": "what?"}], ["VizWiz_test_1.jpg"], ["VizWiz_test_1.jpg"]),
        (
            {"image": {"0": "a.jpg", "1": "b.jpg"}, "question": {"0": "what?", "1": "who?"}},
            ["a.jpg", "b.jpg"],
            ["b.jpg"],
        ),
    ],
)
def test_published_layouts(value, ids, files, tmp_path):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(png())
    asked = questions.of_file(write(tmp_path / "q.json", value), tmp_path, "Answer in EN: {question} <extra_id_0>")
    assert [entry.id for entry in asked.entries] == ids
    last = asked.read([len(ids) - 1])[0]
    assert last.image == png() and last.error == "" and last.id == ids[-1]
    assert last.prompt == f"Answer in EN: {'who?' if len(ids) == 2 else 'what?'} <extra_id_0>"


def test_images_to_be_captioned(tmp_path):
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "b.jpg").write_bytes(png())
    (tmp_path / "c.jpg").write_bytes(png(3))
    coco = {"images": [{"id": 4, "file_name": "c.jpg"}, {"id": 2, "file_name": "x.jpg"}]}
    asked = questions.of_file(write(tmp_path / "coco.json", coco), tmp_path, "say")
    assert [(one.id, one.image, one.error) for one in asked.read([0, 1])] == [
        (4, png(3), ""),
        (2, None, "image missing"),
    ]
    image = {"filename": "b.jpg", "filepath": "val2014", "cocoid": 7, "imgid": 0, "split": "test", "sentences": []}
    karpathy = {"images": [image, image | {"cocoid": 8, "split": "train"}], "dataset": "coco"}
    asked = questions.of_file(write(tmp_path / "k.json", karpathy), tmp_path, "say", "test,val")
    assert [(one.id, one.image) for one in asked.read([0])] == [(7, png())] and len(asked) == 1
    with pytest.raises(ValueError, match="has no questions of split 'tset'"):
        questions.of_file(tmp_path / "k.json", tmp_path, "say", "tset")


def test_own_lines_may_have_prompts_and_no_images(tmp_path):
    lines = [{"id": "a", "prompt": "p {x}"}, {"id": "b", "prompt": "q", "image": "sub/i.png"}]
    path = write(tmp_path / "own.jsonl", lines)
    with pytest.raises(ValueError, match="are about images: give their folder"):
        questions.of_file(path, "", "")
    asked = questions.of_file(path, tmp_path, "")
    (tmp_path / "i.png").write_bytes(png())
    assert asked.read([0, 1]) == [questions.Asked("a", "p {x}"), questions.Asked("b", "q", png())]
    assert len(asked.digest()) == 32 and asked.digest() != questions.of_file(path, tmp_path, "x").digest()


@pytest.mark.parametrize(
    "text, prompt, message",
    [
        ('[{"id": 1, "question": "a"}, {"id": 1, "question": "b"}]', "{question}", "1 ids stand twice: 1"),
        ('[{"id": 1, "question": "a"}]', "{qestion}", "nearest: 'question'"),
        ('[{"id": 1, "question": "a"}]', "", "entry 0 has no prompt: give one"),
        ('[{"question": "a"}]', "x", "entry 0: no id: expected one of question_id"),
        ("[3]", "x", "entry 0 is int; expected an object"),
        ('{"info": 3}', "x", "holds an object with info; expected 'questions'"),
        ("[]", "x", "has no questions"),
        ("[" * 100_000, "x", "is no valid JSON"),
        ('{"a":', "x", "is no valid JSON"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text, prompt, message, tmp_path):
    path = tmp_path / "q.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        questions.of_file(path, "", prompt)


def test_names_that_leave_the_folder_are_not_followed(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(png())
    inside = tmp_path / "images"
    inside.mkdir()
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), "a\0b", "a/../../secret.jpg"):
        assert questions.read_image(inside, [name]) == "bad file name"
    assert questions.read_image(tmp_path, ["secret.jpg"]) == png()


def test_a_folder_in_the_order_of_its_names(tmp_path):
    for name in ("b/2.PNG", "b/1.jpeg", "a.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png())
    asked = questions.of_folder(tmp_path, "say")
    assert [one.id for one in asked.read(range(len(asked)))] == ["a.jpg", "b/1.jpeg", "b/2.PNG"]
    with pytest.raises(FileNotFoundError, match="No image in"):
        questions.of_folder((tmp_path / "none").mkdir() or tmp_path / "none", "say")
    with pytest.raises(ValueError, match="questions don't have"):
        questions.of_folder(tmp_path, "{question}")
