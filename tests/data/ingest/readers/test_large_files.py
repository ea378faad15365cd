import bz2
import gzip
import json
import time

import pytest

from paligax.data.ingest.reader import Problem
from paligax.data.ingest.readers import large_files
from paligax.data.ingest.readers.large_files import csv_rows, json_items, json_lines, lines


def put(file, data):
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(file)


def flattened(value):
    """What json_items gives, by the json module."""
    for name, part in value.items() if isinstance(value, dict) else [("", value)]:
        if isinstance(part, dict):
            yield from ((name, place, inner) for place, inner in part.items())
        elif isinstance(part, list):
            yield from ((name, place, inner) for place, inner in enumerate(part))
        else:
            yield name, "", part


VALUES = [
    {
        "images": [{"id": 1}, {"id": 2, "x": [1, {"y": None}]}],
        "info": {"year": 2014, "by": "á 猫 😀"},
        "v": 1.25,
        "n": [],
    },
    [{"a": 1}, [2, 3], "four", 5, -6.5e-3, True, None, '\\" \ud800'],
    {"image": {"0": "a.jpg", "1": "b.jpg"}, "answers": {"0": [{"answer": "x"}], "1": []}, "empty": {}},
    [],
    {},
]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1 << 20])
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("style", [{}, {"indent": 1}, {"ensure_ascii": False}, {"separators": (",", ":")}])
def test_every_value_of_depth_two_wherever_blocks_end(tmp_path, monkeypatch, value, block, style):
    monkeypatch.setattr(large_files, "BLOCK_BYTES", block)
    text = json.dumps(value, **style) + " \n"
    path = put(
        tmp_path / "a.json", text.encode("utf-8", "surrogatepass") if "\ud800" not in text else json.dumps(value)
    )
    assert list(json_items(path)) == list(flattened(value))


def test_a_byte_order_mark_and_packed_files(tmp_path):
    data = b'\xef\xbb\xbf{"a": [1]}'
    for name, packed in {"a.json": data, "b.json": gzip.compress(data), "c": bz2.compress(data)}.items():
        assert list(json_items(put(tmp_path / name, packed))) == [("a", 0, 1)]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it ends"),
        (b"  ", "it ends"),
        (b'{"images": [{"id": 1}, {"id"', "it ends"),
        (b'{"images": [{"id": 1}', "it ends"),
        (b'{"images": [1]', "the end found"),
        (b'{"images": [12', "it ends"),
        (b'{"images": ["abc', "it ends"),
        (b'{"images": [1]} {}', "something behind the end"),
        (b'{"images": [1], 5: 2}', "a name was expected"),
        (b"{'images': [1], 'annotations': [2]}", "property name|Expecting value"),
        (b'{"a": [1 2]}', "was expected, and '2' found"),
        (b'["\xff\xfe"]', "not UTF-8"),
        (b"[" + b"9" * 5000 + b", 1]", "digits"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
        (b'{"images": [{"id": }, {"id": 2}, {"id": 3}]}', "Expecting value"),
    ],
)
def test_what_is_no_whole_json_file_is_told_with_its_place(tmp_path, data, why):
    with pytest.raises(ValueError, match=why) as error:
        list(json_items(put(tmp_path / "a.json", data)))
    assert "at character" in str(error.value) and "a.json" in str(error.value)


def test_a_syntax_error_is_told_without_reading_on(tmp_path, monkeypatch):
    monkeypatch.setattr(large_files, "BLOCK_BYTES", 1000)
    path = put(tmp_path / "a.json", "[" + "{]," * 1_000_000)
    started = time.perf_counter()
    with pytest.raises(ValueError, match="at character 1,"):
        list(json_items(path))
    assert time.perf_counter() - started < 0.5


def test_a_huge_value_is_refused_and_a_long_one_read_in_linear_time(tmp_path, monkeypatch):
    monkeypatch.setattr(large_files, "MAX_VALUE", 3_000_000)
    monkeypatch.setattr(large_files, "BLOCK_BYTES", 10_000)
    long = "x" * 2_000_000
    assert list(json_items(put(tmp_path / "a.json", json.dumps([long])))) == [("", 0, long)]
    with pytest.raises(ValueError, match="more than 3,000,000 characters"):
        list(json_items(put(tmp_path / "b.json", json.dumps(["x" * 20_000_000]))))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_damaged_packed_file_is_an_error(tmp_path, pack):
    data = pack(json.dumps(list(range(100_000))).encode())
    for broken in (data[:-10], data[:100], data[:500] + b"\0" * 50 + data[550:]):
        with pytest.raises(ValueError, match="damaged"):
            list(json_items(put(tmp_path / "a.json.gz", broken)))


def test_a_missing_file():
    with pytest.raises(FileNotFoundError):
        next(json_items("/nowhere/a.json"))


@pytest.mark.parametrize("block", [1, 4, 1 << 20])
def test_lines_of_any_length(tmp_path, monkeypatch, block):
    monkeypatch.setattr(large_files, "BLOCK_BYTES", block)
    path = put(tmp_path / "a", b"one\r\n\ntoo long a line\nfour\nanother one too long")
    assert list(lines(path, limit=6)) == [(1, b"one"), (2, b""), (3, None), (4, b"four"), (5, None)]
    assert list(lines(put(tmp_path / "b", b"one\ntwo\n"))) == [(1, b"one"), (2, b"two")]
    assert list(lines(put(tmp_path / "c", b""))) == []


def test_json_lines_tell_the_line(tmp_path):
    path = put(tmp_path / "a", b'{"a": "\xe7\x8c\xab"}\n\n{"a": \n[1]\n"\xff"\n' + b"[" * 50_000)
    assert list(json_lines(path)) == [
        (1, {"a": "猫"}),
        (3, Problem("line is not JSON", f"{path}:3")),
        (4, [1]),
        (5, Problem("line is not JSON", f"{path}:5")),
        (6, Problem("line is not JSON", f"{path}:6")),
    ]


def test_csv_rows_by_name(tmp_path):
    path = put(tmp_path / "a.csv", '\ufeffid,title, n\n1,"a, ""b""\nc",2\n\n2,x\n3,ä,4,5\n4,"" , 6\r\n')
    assert list(csv_rows(path, ["n", "id"])) == [
        (3, ["2", "1"]),
        (5, Problem("table row of another length", f"{path}:5")),
        (6, Problem("table row of another length", f"{path}:6")),
        (7, ["6", "4"]),
    ]
    with pytest.raises(ValueError, match="no column 'titel'; did you mean 'title'"):
        next(csv_rows(path, ["titel"]))


def test_an_open_quote_swallows_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(large_files, "MAX_LINE", 200)
    path = put(tmp_path / "a.csv", 'id\n"' + "x\n" * 100_000 + "7\n")
    found = list(csv_rows(path, ["id"]))
    assert found[0][1].reason == "unreadable table row" and found[-1] == (100_002, ["7"])


def test_tabs_quote_nothing(tmp_path):
    path = put(tmp_path / "a.tsv", 'q\ta\n"what\tx"\n')
    assert list(csv_rows(path, ["a", "q"], tabs=True)) == [(2, ['x"', '"what'])]
