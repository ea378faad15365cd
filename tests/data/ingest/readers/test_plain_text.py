import gzip
import json

import pytest

from paligax.data.ingest.readers import lines, plain_text, streams
from paligax.data.ingest.readers.plain_text import PlainText
from tests.data.ingest.readers.reading import read, reasons


def test_a_document_a_line(tmp_path):
    (tmp_path / "de").mkdir()
    text = "Erster Satz hier. Zweiter Satz da.\r\n\r\nNoch einer\nkaputt \xff\n".encode("latin-1") + "日本語。".encode()
    (tmp_path / "de" / "a.txt").write_bytes(text)
    records, problems = read(PlainText(str(tmp_path / "de"), "de", words=3))
    assert records == [
        {"id": f"de/a.txt:{place}", "text": text, "text_lang": "de", "source": "text"}
        for place, text in [
            ("1:0", "Erster Satz hier."),
            ("1:1", "Zweiter Satz da."),
            ("3:0", "Noch einer"),
            ("5:0", "日本語。"),
        ]
    ]
    assert problems == [("invalid UTF-8", f"{tmp_path}/de/a.txt line 4")]


def test_units_together_are_the_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"".join(b"document %d\n" % i for i in range(23)))
    whole, _ = read(PlainText(str(tmp_path)))
    assert len(whole) == 23
    reader = PlainText(str(tmp_path), unit_size=5)
    assert len(list(reader.units())) == 5 and read(reader)[0] == whole


def test_a_document_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "BUFFER", 10_001)
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfOne two three.\nFour five six.")
    (tmp_path / "b.txt").write_bytes(gzip.compress("é ".encode() * 100_000))
    (tmp_path / "c.txt").write_bytes(gzip.compress(b"".join(b"%d " % i for i in range(9999)))[:-40])
    (tmp_path / "d.txt").write_bytes(b"")
    (tmp_path / "e.txt").write_bytes(b"\x80")
    reader = PlainText(str(tmp_path), "fr", documents="file", words=1000)
    assert len(list(reader.units())) == 1
    records, problems = read(reader)
    by_file = {}
    for record in records:
        by_file.setdefault(record["id"].split("/")[1].split(":")[0], []).append(record["text"])
    assert list(by_file) == ["a.txt", "b.txt", "c.txt"]
    assert by_file["a.txt"] == ["One two three.\nFour five six."]
    assert sum(len(text.split()) for text in by_file["b.txt"]) == 100_000
    assert max(len(text.split()) for text in by_file["b.txt"]) <= 1250
    numbers = " ".join(by_file["c.txt"]).split()
    assert numbers[:-1] == [str(i) for i in range(len(numbers) - 1)] and len(numbers) > 5000
    assert sorted(reasons(problems)) == ["damaged or cut file", "invalid UTF-8"]


def test_c4(tmp_path):
    documents = [
        {"text": "Beginners BBQ Class!\nDo you want to get better?", "timestamp": "2019-04-25T12:57:54Z", "url": "u"},
        {"text": "", "url": "u"},
        {"text": 5, "url": "u"},
        {"url": "u"},
        ["text"],
        {"text": "ü" * 3, "meta": {"lang": "et"}},
    ]
    lines = [json.dumps(one).encode() for one in documents] + [b"{broken", b"", b'{"text": "\\ud800x"}', b"[" * 100_000]
    (tmp_path / "c4-train.00000-of-01024.json.gz").write_bytes(gzip.compress(b"\n".join(lines)))
    reader = PlainText(str(tmp_path), "en", documents="json", language="meta.lang", source="c4")
    records, problems = read(reader)
    assert [(r["text"], r["text_lang"], r["source"]) for r in records] == [
        (documents[0]["text"], "en", "c4"),
        ("üüü", "et", "c4"),
        ("\ud800x", "en", "c4"),
    ]
    assert records[0]["id"].endswith("/c4-train.00000-of-01024.json.gz:1:0")
    assert [(reason, where.rpartition(" ")[2]) for reason, where in problems] == [
        ("no text", "3"),
        ("no text", "4"),
        ("no text", "5"),
        ("line is not JSON", "7"),
        ("line is not JSON", "10"),
    ]


def test_long_lines_are_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "BUFFER", 10_001)
    monkeypatch.setattr(plain_text, "MAX_PIECE", 20_000)
    monkeypatch.setattr(lines, "MAX_LINE", 50_000)
    (tmp_path / "a.txt").write_bytes(b"word " * 100_000 + b"\nend\n")
    records, problems = read(PlainText(str(tmp_path), words=500))
    assert problems == [] and records[-1]["text"] == "end" and records[-1]["id"].endswith("a.txt:2:0")
    assert sum(len(r["text"].split()) for r in records) == 100_001
    assert len({r["id"] for r in records}) == len(records)
    (tmp_path / "a.json").write_bytes(b'{"text": "' + b"word " * 20_000 + b'"}\n{"text": "end"}')
    records, problems = read(PlainText(str(tmp_path), documents="json"))
    assert [r["text"] for r in records] == ["end"] and problems == [("line too long", f"{tmp_path}/a.json line 1")]


def test_mistakes_are_told(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a")
    with pytest.raises(ValueError, match="'lines' is not known; did you mean 'line'"):
        list(PlainText(str(tmp_path), documents="lines").units())
    (tmp_path / "c4.json.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="named like JSON lines: give documents=json"):
        list(PlainText(str(tmp_path / "c4.json.gz")).units())
    with pytest.raises(ValueError, match="words=0: expected a whole number from 1 to 1,000,000"):
        list(PlainText(str(tmp_path), words=0).units())
    (tmp_path / "c4.json.gz").unlink()
    with pytest.raises(FileNotFoundError, match="json"):
        list(PlainText(str(tmp_path), documents="json").units())
