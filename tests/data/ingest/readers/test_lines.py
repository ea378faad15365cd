import gzip

import pytest

from paligax.data.ingest.reader import Problem
from paligax.data.ingest.readers import lines, streams


@pytest.fixture(params=[7, 1 << 20])
def buffer(request, monkeypatch):
    monkeypatch.setattr(streams, "BUFFER", request.param)


def written(tmp_path, content, name="a.txt"):
    (tmp_path / name).write_bytes(content)
    return str(tmp_path / name)


def content(path, **other):
    return [(line.number, line.data) for line in lines.read(path, **other)]


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 10, 100])
def test_ranges_together_are_the_file(tmp_path, buffer, size, end):
    texts = [b"%d" % i * (i % 5) for i in range(1, 41)]
    path = written(tmp_path, b"\n".join(texts) + end)
    found = [list(lines.read(path, *some)) for some in lines.ranges(path, size)]
    assert all(len(some) == size for some in found[:-1])
    assert [line.number for some in found for line in some] == list(range(1, 41 if texts[-1] or end else 40))
    assert [line.data for some in found for line in some] == texts[: len([1 for some in found for _ in some])]


def test_an_empty_file_has_no_ranges(tmp_path):
    assert list(lines.ranges(written(tmp_path, b""), 3)) == []
    assert list(lines.read(written(tmp_path, b""))) == []


def test_line_ends_and_byte_order_mark(tmp_path, buffer):
    path = written(tmp_path, b"\xef\xbb\xbfa\r\n\r\n\xef\xbb\xbfb\nc\r")
    assert content(path) == [(1, b"a"), (2, b""), (3, b"\xef\xbb\xbfb"), (4, b"c")]


def test_long_lines_come_in_pieces(tmp_path, buffer):
    path = written(tmp_path, b"short\n" + b"word " * 10 + b"\n" + "語".encode() * 10 + b"\nend")
    found = list(lines.read(path, limit=16))
    assert found[0] == (1, 0, True, b"short") and found[-1] == (4, 0, True, b"end")
    assert all(len(line.data) <= 16 for line in found)
    second = [line for line in found if line.number == 2]
    assert [line.part for line in second] == list(range(len(second))) and not any(line.whole for line in second)
    assert b"".join(line.data for line in second) == b"word " * 10
    assert all(line.data.endswith(b" ") for line in second if line.data)
    third = [line.data.decode() for line in found if line.number == 3]
    assert "".join(third) == "語" * 10 and len(third[0]) == 5


def test_packed_files_are_one_range_and_tell_where_they_are_cut(tmp_path):
    packed = gzip.compress(b"".join(b"%d line %d\n" % (i * 7919 % 10007, i) for i in range(2000)))
    path = written(tmp_path, packed)
    assert list(lines.ranges(path, 10)) == [(0, None, 1)]
    assert len(content(path)) == 2000
    cut = list(lines.read(written(tmp_path, packed[: len(packed) // 2], "cut")))
    assert isinstance(cut[-1], Problem) and cut[-1].reason == "damaged or cut file" and "cut line" in cut[-1].where
    assert not any(isinstance(one, Problem) for one in cut[:-1])
    bad = list(lines.read(written(tmp_path, packed[:50] + b"?" * 50 + packed[100:], "bad")))
    assert isinstance(bad[-1], Problem)
