import gzip
import hashlib
import json

import pytest

from paligax.data.ingest.readers.vq2a import Vq2a
from tests.data.ingest.readers.annotated import admitted, put_images, put_json, put_lines
from tests.data.ingest.readers.reading import read, reasons


def triplets(record):
    return [(qa["lang"], qa["question"], qa["answer"]) for qa in record["qa"]]


def pair(question, *answers):
    return {"question_id": "1_0", "raw_question": question.lower(), "question": question, "answers": list(answers)}


def published(*annotations):
    return {"dataset": "vq2a_coco", "split": "minival2014", "annotations": list(annotations)}


def test_the_published_form(tmp_path):
    put_images(tmp_path, "COCO_val2014_000000057870.jpg")
    path = put_json(
        tmp_path / "maverics_coco.json",
        published(
            {
                "image_id": "57870",
                "caption": "a restaurant",
                "qa_pairs": [pair("What is it?", "restaurant", "cafe", "cafe"), pair("Où?", "here")],
            },
            {
                "image_id": "57870",
                "caption": "tables",
                "qa_pairs": [pair("How many?", "2"), pair("Empty?"), {"question": 3}],
            },
            {"image_id": "9", "caption": "x", "qa_pairs": [pair("?", "x")]},
            {"caption": "no image", "qa_pairs": [pair("?", "x")]},
            7,
        ),
    )
    records, problems = read(Vq2a(path=path, images=str(tmp_path)))
    assert len(records) == 1 and records[0]["id"] == "57870"
    assert triplets(records[0]) == [("en", "What is it?", "cafe"), ("en", "Où?", "here"), ("en", "How many?", "2")]
    assert admitted(records[0])[1] == [] and records[0]["source"] == "vq2a" and "alt_text" not in records[0]
    assert reasons(problems) == [
        "question without answers",
        "question without image or text",
        "question without image or text",
        "entry is no object",
        "image missing",
    ]
    records, _ = read(Vq2a(path=path, images=str(tmp_path), answers="all"))
    assert [a for _, _, a in triplets(records[0])] == ["restaurant", "cafe", "cafe", "here", "2"]


URL = "https://example.org/a?b=猫.jpg"


def test_json_lines_of_triplets_in_many_languages(tmp_path):
    name = hashlib.md5(URL.encode()).hexdigest() + ".jpg"
    put_images(tmp_path, name)
    path = put_lines(
        tmp_path / "vq2a.jsonl",
        {"url": URL, "question": "Was ist das?", "answer": "cat", "lang": "de"},
        {"url": URL, "question": "これは何ですか", "answer": "cat", "language": "ja"},
        {"url": URL, "lang": "fr", "qa_pairs": [["Qui ?", "a cat"], {"question": "¿?", "answer": "x", "lang": "es"}]},
        {"url": URL, "question": "What?", "answer": "cat"},
        {"url": URL, "question": "", "answer": "cat"},
        {"url": URL, "qa_pairs": ["not a pair"]},
        '{"url": "cut',
    )
    records, problems = read(Vq2a(path=path, images=str(tmp_path), image_name="{md5}.jpg", lang="nl"))
    assert triplets(records[0]) == [
        ("de", "Was ist das?", "cat"),
        ("ja", "これは何ですか", "cat"),
        ("fr", "Qui ?", "a cat"),
        ("es", "¿?", "x"),
        ("nl", "What?", "cat"),
    ]
    assert records[0]["id"] == URL
    assert problems == [
        ("question without image or text", f"{path}: 5"),
        ("question without image or text", f"{path}: 6"),
        ("line is not JSON", f"{path}:7"),
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_a_table(tmp_path, packed):
    put_images(tmp_path, "12.jpg", "b.png")
    table = (
        'image_id\tquestion\tanswer\tlang\n12\tSay "what"?\tdog\ten\nb.png\t谁？\ta man\tzh\n12\tshort\nc\t?\t\ten\n'
    )
    (tmp_path / "t.tsv").write_text(table)
    (tmp_path / "t.tsv.gz").write_bytes(gzip.compress(table.encode()))
    path = str(tmp_path / ("t.tsv.gz" if packed else "t.tsv"))
    records, problems = read(Vq2a(path=path, images=str(tmp_path)))
    assert [triplets(r) for r in records] == [[("en", 'Say "what"?', "dog")], [("zh", "谁？", "a man")]]
    assert reasons(problems) == ["table row of another length", "question without answers", "image missing"]


@pytest.mark.parametrize(
    ("pattern", "file"),
    [("COCO_val2014_{number:012d}.jpg", "COCO_val2014_000000000007.jpg"), ("x/{id}.png", "x/7.png")],
)
def test_image_names(tmp_path, pattern, file):
    put_images(tmp_path, file)
    entries = [{"image_id": i, "question": "?", "answer": "x"} for i in (7, "abc")]
    records, problems = read(
        Vq2a(path=put_json(tmp_path / "a.json", entries), images=str(tmp_path), image_name=pattern)
    )
    assert [r["id"] for r in records] == ["7"]
    assert reasons(problems) == ["image id is no number" if "number" in pattern else "image missing"]


@pytest.mark.parametrize("pattern", ["{file}.jpg", "{0}.jpg", "{id", "{id:012d}.jpg", "{id.x}"])
def test_a_wrong_pattern(pattern):
    with pytest.raises(ValueError, match="image_name=.*expected a name with"):
        list(Vq2a(path="a.json", images="x", image_name=pattern).units())


def test_files_of_another_kind(tmp_path):
    def units(name, text):
        (tmp_path / name).write_text(text)
        return list(Vq2a(path=str(tmp_path / name), images="x").units())

    with pytest.raises(ValueError, match="has no questions"):
        units("a.json", '{"images": [1]}')
    with pytest.raises(ValueError, match="must name the columns question, answer and image_id or"):
        units("a.tsv", "12\tWhat?\tdog\n")
    with pytest.raises(ValueError, match="expected a name in .json, .jsonl or .tsv"):
        units("a.txt", "")
    with pytest.raises(ValueError, match="not a whole JSON file"):
        units("a.json", json.dumps(published({"image_id": 1}))[:-3])
