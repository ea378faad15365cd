import gzip
import json

import pytest

from paligax.data import records as schema
from paligax.data.ingest.readers.jsonl import JsonLines
from tests.data.ingest.readers.reading import read, reasons


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.png"):
        (tmp_path / "images" / name).write_bytes(name.encode())
    (tmp_path / "images" / "empty.jpg").write_bytes(b"")
    (tmp_path / "secret").write_bytes(b"secret")
    return str(tmp_path / "images")


def written(tmp_path, *objects, name="mine.jsonl"):
    lines = [one if isinstance(one, bytes) else json.dumps(one, ensure_ascii=False).encode() for one in objects]
    (tmp_path / name).write_bytes(b"\n".join(lines) + b"\n")
    return str(tmp_path / name)


def test_our_own_fields_nested_and_flat(tmp_path, images):
    qa = [{"lang": "de", "question": "was?", "answer": "eine Katze"}]
    path = written(
        tmp_path,
        {"id": "7", "image": "a.jpg", "qa": qa, "score": 0.5, "labels": ["cat"], "source": "me"},
        {"image": "sub/b.png", "alt_text/text": ["日本", "two"], "alt_text/lang": ["ja", ""]},
        {"text": "no image", "text_lang": "en", "id": None},
    )
    records, problems = read(JsonLines(path, images, lang="en"))
    assert problems == []
    assert records == [
        {"id": "7", "image": b"a.jpg", "qa": qa, "score": 0.5, "labels": ["cat"], "source": "me"},
        {
            "id": "mine.jsonl:2",
            "image": b"sub/b.png",
            "alt_text": [{"lang": "ja", "text": "日本"}, {"lang": "en", "text": "two"}],
            "source": "jsonl",
        },
        {"id": "mine.jsonl:3", "text": "no image", "text_lang": "en", "source": "jsonl"},
    ]
    flat = schema.decode(schema.encode(records[1]))
    assert flat["alt_text/text"] == ["日本", "two"] and flat["image"] == b"sub/b.png"


def test_other_names(tmp_path, images):
    path = written(
        tmp_path,
        {"file": "a.jpg", "meta": {"question": "what?", "answers": ["cat", "a cat"]}, "text": "a cap", "width": 3},
        {"file": "sub/b.png", "meta": {}, "text": "", "width": 4, "height": 5},
    )
    mapping = "file=image,meta.question=qa/question,meta.answers=qa/answer,text=alt_text/text"
    records, problems = read(JsonLines(path, images, fields=mapping, lang="en", source="mine"))
    items = [{"lang": "en", "question": "what?", "answer": answer} for answer in ("cat", "a cat")]
    assert records == [
        {
            "id": "mine.jsonl:1",
            "image": b"a.jpg",
            "qa": items,
            "alt_text": [{"lang": "en", "text": "a cap"}],
            "source": "mine",
        },
        {"id": "mine.jsonl:2", "image": b"sub/b.png", "alt_text": [{"lang": "en", "text": ""}], "source": "mine"},
    ]
    assert reasons(problems) == ["field not used"] * 2
    assert [where.rpartition(" ")[2] for _, where in problems] == ["width", "height"]


def test_one_bad_line_costs_one_record(tmp_path, images):
    path = written(
        tmp_path,
        {"image": "a.jpg", "id": 1},
        b'{"image": "a.jpg", "id',
        b"",
        b'{"id": "\xff\xfe", "image": "a.jpg"}',
        [1, 2],
        {"image": "missing.jpg"},
        {"image": "../secret"},
        {"image": "/etc/passwd"},
        {"image": "empty.jpg"},
        {"image": {"path": "a.jpg"}},
        b'{"id": ' + b"[" * 100_000,
        b'{"id": 1' + b"0" * 5000 + b"}",
        b'{"image": "a.jpg", "qa": {"question": ["a", "b"], "answer": ["1"]}}',
        b'{"image": "a.jpg", "score": NaN, "alt_text": [{"text": "\\ud800"}]}',
    )
    records, problems = read(JsonLines(path, images))
    assert [r["id"] for r in records] == ["1", "mine.jsonl:13", "mine.jsonl:14"]
    assert [(reason, where.split(" line ")[-1].split(":")[0]) for reason, where in problems] == [
        ("line is not JSON", "2"),
        ("line is not JSON", "4"),
        ("not an object", "5"),
        ("image missing", "6"),
        ("bad file name", "7"),
        ("bad file name", "8"),
        ("image empty", "9"),
        ("image is not a file name", "10"),
        ("line is not JSON", "11"),
        ("line is not JSON", "12"),
        ("value of a wrong type", "13"),
    ]


def test_units_together_are_the_file(tmp_path, images):
    path = written(tmp_path, *[{"id": i, "text": f"text {i}"} for i in range(25)])
    whole, _ = read(JsonLines(path))
    assert [r["id"] for r in whole] == [str(i) for i in range(25)]
    for size in (1, 7, 25, 100):
        reader = JsonLines(path, unit_size=size)
        assert len(list(reader.units())) == -(-25 // size) and read(reader)[0] == whole


def test_a_json_list(tmp_path, images):
    objects = [{"image": "a.jpg", "id": str(i)} for i in range(5)] + ["text"]
    (tmp_path / "list.json").write_text(" \n" + json.dumps(objects, indent=2))
    reader = JsonLines(str(tmp_path / "list.json"), images, unit_size=4)
    records, problems = read(reader)
    assert len(list(reader.units())) == 2 and [r["id"] for r in records] == list("01234")
    assert problems == [("not an object", f"{tmp_path}/list.json item 5")]


def test_packed_lines_and_images_beside_the_file(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    data = b"".join(b'{"image": "a.jpg", "id": "%d"}\n' % (i * 7919) for i in range(100))
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(data))
    records, problems = read(JsonLines(str(tmp_path)))
    assert len(records) == 100 and records[3]["image"] == b"a" and problems == []
    (tmp_path / "x.jsonl.gz").write_bytes(gzip.compress(data)[:-100])
    records, problems = read(JsonLines(str(tmp_path)))
    assert 0 < len(records) < 100 and reasons(problems) == ["damaged or cut file"]


def test_a_long_line_is_passed_over(tmp_path, monkeypatch):
    path = written(tmp_path, {"id": "1", "text": "a"}, {"id": "2", "text": "b" * (17 << 20)}, {"id": "3", "text": "c"})
    records, problems = read(JsonLines(path))
    assert [r["id"] for r in records] == ["1", "3"]
    assert problems == [("line too long", f"{path} line 2")]


def test_mistakes_are_told_before_anything_is_read(tmp_path):
    path = written(tmp_path, {"file": "a.jpg", "question": "what?"})
    with pytest.raises(ValueError, match="no 'questoin' .*did you mean 'question'"):
        list(JsonLines(path, fields="questoin=qa/question").units())
    with pytest.raises(ValueError, match="holds file, question; expected fields"):
        list(JsonLines(path).units())
    with pytest.raises(ValueError, match="did you mean 'qa/question'"):
        list(JsonLines(path, fields="question=qa/questoin").units())
    with pytest.raises(ValueError, match="no JSON objects"):
        list(JsonLines(written(tmp_path, b"a,b", b"1,2", name="a.csv")).units())
    (tmp_path / "empty.jsonl").write_bytes(b"")
    assert list(JsonLines(str(tmp_path / "empty.jsonl")).units()) == []


def test_a_broken_file_among_others_is_counted(tmp_path):
    written(tmp_path, {"id": "1", "text": "a"}, name="b.jsonl")
    written(tmp_path, b"\x00\x01 nothing of the kind", name="a.jsonl")
    found, problems = read(JsonLines(str(tmp_path)))
    assert [r["id"] for r in found] == ["1"] and reasons(problems) == ["line is not JSON"]
