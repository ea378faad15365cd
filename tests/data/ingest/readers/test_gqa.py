import pytest

from paligax.data.ingest.readers.gqa import Gqa
from tests.data.ingest.readers.annotated import put_images, put_json
from tests.data.ingest.readers.reading import read, reasons


def question(image, text, answer, **other):
    return {
        "semantic": [{"operation": "select", "dependencies": [], "argument": "wall (722332)"}],
        "entailed": [], "equivalent": ["02930152"], "question": text, "imageId": image, "isBalanced": True,
        "groups": {"global": None, "local": "10q-wall_color"}, "answer": answer, "fullAnswer": f"It is {answer}.",
        "types": {"structural": "query"}, **other,
    }  # fmt: skip


def test_questions_in_several_languages_about_one_image(tmp_path):
    put_images(tmp_path / "images", "2405722.jpg", "n161313.jpg")
    english = {
        "201307251": question("n161313", "Who is wearing the dress?", "woman"),
        "201640614": question("2405722", "Is it clear?", "yes"),
    }
    german = {"201640614": question("2405722", "Ist es klar?", "yes"), "7": question(None, "?", "x")}
    put_json(tmp_path / "testdev_balanced_questions_en.json", english)
    put_json(tmp_path / "testdev_balanced_questions_de.json", german)
    pattern = str(tmp_path / "testdev_balanced_questions_*.json")
    records, problems = read(Gqa(pattern, str(tmp_path / "images")))
    assert [r["id"] for r in records] == ["2405722", "n161313"]
    assert records[0]["qa"] == [
        {"lang": "de", "question": "Ist es klar?", "answer": "yes"},
        {"lang": "en", "question": "Is it clear?", "answer": "yes"},
    ]
    assert reasons(problems) == ["question without image or text"]
    (one,), _ = read(Gqa(str(tmp_path / "testdev_balanced_questions_de.json"), str(tmp_path / "images"), lang="xx"))
    assert one["qa"][0]["lang"] == "xx"


def test_gqa_is_english_and_a_test_set_is_asked(tmp_path):
    put_images(tmp_path, "1.jpg")
    asked = {"5": {"imageId": "1", "question": "What?", "isBalanced": True}, "6": question("2", "Gone?", "no")}
    path = put_json(tmp_path / "test_balanced_questions.json", asked)
    records, problems = read(Gqa(path, str(tmp_path)))
    assert records[0]["qa"] == [{"lang": "en", "question": "What?", "answer": ""}]
    assert reasons(problems) == ["image missing"]
    with pytest.raises(ValueError, match="has no questions"):
        list(Gqa(put_json(tmp_path / "x.json", [1, 2]), "").units())
