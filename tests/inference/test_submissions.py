import json

import pytest

from paligax.inference import submissions


def lines(*pairs):
    return [{"id": one, "prompt": "", "prediction": text} for one, text in pairs]


@pytest.mark.parametrize(
    "name, ids, entry",
    [
        ("vqav2", [5, 3], {"question_id": 5, "answer": "é"}),
        ("textvqa", ["5", "3"], {"question_id": 5, "answer": "é"}),
        ("vizwiz_vqa", ["a.jpg", "b.jpg"], {"image": "a.jpg", "answer": "é"}),
        ("coco_captions", [5, 3], {"image_id": 5, "caption": "é"}),
        ("vizwiz_captions", [5, 3], {"image_id": 5, "caption": "é"}),
        ("gqa", ["05", "3"], {"questionId": "05", "prediction": "é"}),
    ],
)
def test_forms_of_the_servers(name, ids, entry, tmp_path):
    submissions.check_ids(ids, name)
    answers = lines((ids[1], "no"), (ids[0], "é"))
    assert not submissions.write(answers, ids, name, tmp_path / "s.json")
    written = json.loads((tmp_path / "s.json").read_text())
    assert written[0] == entry and len(written) == 2  # in the order of the questions


def test_a_question_that_could_not_be_asked_is_answered_and_counted(tmp_path):
    answers = [{"id": "a.jpg", "prompt": "", "error": "broken image"}, *lines(("b.jpg", "cup"))]
    problems = submissions.write(answers, ["a.jpg", "b.jpg"], "vizwiz_vqa", tmp_path / "s.json")
    assert problems == {"broken image": 1}
    assert json.loads((tmp_path / "s.json").read_text())[0] == {"image": "a.jpg", "answer": "unanswerable"}


@pytest.mark.parametrize(
    "answered, ids, message",
    [
        ([1, 2], [1, 2, 3], r"1 questions have no answer \(3\), 0 answers no question"),
        ([1, 2], [1], r"0 questions have no answer \(\), 1 answers no question \(2\)"),
        ([1, 1], [1], "Question 1 is answered twice"),
        ([1], [1, 1], "1 questions stand twice"),
    ],
)
def test_every_question_is_answered_once(answered, ids, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        submissions.write(lines(*((one, "x") for one in answered)), ids, "vqav2", tmp_path / "s.json")
    assert not list(tmp_path.iterdir())


def test_ids_of_another_kind_are_refused_before_anything_is_asked():
    with pytest.raises(ValueError, match=r"numbers its questions \(image_id\); here is the id 'a/b.jpg'"):
        submissions.check_ids(["a/b.jpg"], "coco_captions")
    with pytest.raises(ValueError, match="Submission 'vqa' is not known; known: vqav2"):
        submissions.check_ids([1], "vqa")
