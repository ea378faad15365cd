import pytest

from paligax.data.ingest.readers.squad import Squad
from tests.data.ingest.readers.annotated import put_json
from tests.data.ingest.readers.reading import read, reasons


def file(*asked, context="The Panthers' defense gave up just 308 points."):
    qas = [
        {"id": i, "question": question, "answers": [{"answer_start": 0, "text": text} for text in texts]}
        for i, question, texts in asked
    ]
    return {"version": "1.1", "data": [{"title": "", "paragraphs": [{"context": context, "qas": qas}]}]}


def test_xquad(tmp_path):
    put_json(tmp_path / "xquad.en.json", file(("56beb4", "How many points?", ["308", "308", "just 308"])))
    put_json(tmp_path / "xquad.de.json", file(("56beb4", "Wie viele Punkte?", ["308"]), context="Nur 308 Punkte."))
    records, problems = read(Squad(str(tmp_path / "xquad.*.json")))
    assert not problems and [(r["text_lang"], r["text"]) for r in records] == [
        ("de", "Nur 308 Punkte."),
        ("en", "The Panthers' defense gave up just 308 points."),
    ]
    assert [qa["answer"] for qa in records[1]["qa"]] == ["308", "308", "just 308"]
    assert {qa["question"] for qa in records[1]["qa"]} == {"How many points?"}


def test_languages_of_tydiqa_are_in_its_ids(tmp_path):
    asked = file(("finnish-7633091379093049092-0", "Mikä?", ["x"]), ("swahili-1-2", "Nini?", ["y"]))
    path = put_json(tmp_path / "tydiqa-goldp-v1.1-dev.json", asked)
    assert [r["text_lang"] for r in read(Squad(path))[0]] == ["fi", "sw"]
    assert [r["text_lang"] for r in read(Squad(path, lang="xx"))[0]] == ["xx", "xx"]
    path = put_json(tmp_path / "tydiqa.te.dev.json", file(("1", "?", ["x"])))
    assert read(Squad(path))[0][0]["text_lang"] == "te"
    assert read(Squad(put_json(tmp_path / "train-v1.1.json", file(("1", "?", ["x"])))))[0][0]["text_lang"] == "en"


def test_what_cannot_be_asked_is_counted(tmp_path):
    content = file(("1", "Why?", []), ("2", " ", ["x"]), ("3", "Who?", ["she"]))
    content["data"] += [{"title": "x"}, {"paragraphs": [{"context": "", "qas": []}, {"context": "a", "qas": ["x"]}, 5]}]
    records, problems = read(Squad(put_json(tmp_path / "dev-v2.0.json", content)))
    assert [r["id"] for r in records] == ["3"]
    assert sorted(reasons(problems)) == [
        "article without paragraphs", "paragraph without text or questions", "paragraph without text or questions",
        "question without answers", "question without text", "question without text",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="expected an object with 'data'"):
        list(Squad(put_json(tmp_path / "x.json", {"version": "1"})).units())
