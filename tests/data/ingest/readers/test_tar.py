import gzip
import io
import tarfile
import tracemalloc

import pytest

from paligax.data.ingest.reader import Problem
from paligax.data.ingest.readers import tar


def member(name, data=b"", **other):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in other.items():
        setattr(info, key, value)
    return info, data


def archive(*members, format=tarfile.USTAR_FORMAT):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as written:
        for info, data in members:
            written.addfile(info, io.BytesIO(data))
    return file.getvalue()


def listed(data, limit=1000):
    """Members as (name, data), Problems as their reasons."""
    found = tar.members(io.BytesIO(data), "x.tar", lambda name: 0 if name.endswith(".no") else limit)
    return [one.reason if isinstance(one, Problem) else tuple(one) for one in found]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_and_sizes_of_every_format(format):
    members = [
        ("a.txt", b""),
        ("b.txt", b"x" * 512),
        ("c.txt", b"y" * 513),
        ("d" * 90 + "/" + "e" * 60, b"long"),
        ("ü/日本.txt", b"z"),
    ]
    assert listed(archive(*[member(*m) for m in members], format=format)) == members


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_longer_than_a_header(format):
    members = [("d/" * 200 + "name", b"1"), ("short", b"2")]
    assert listed(archive(*[member(*m) for m in members], format=format)) == members


def test_what_is_no_plain_file_or_leads_elsewhere_is_refused():
    refused = [
        member("dir", type=tarfile.DIRTYPE),
        member("hard", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        member("soft", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("device", type=tarfile.CHRTYPE),
        member("pipe", type=tarfile.FIFOTYPE),
        member("../up", b"1"),
        member("a/../../up", b"1"),
        member("/root", b"1"),
        member("..\\up", b"1"),
        member("C:\\up", b"1"),
        member("large", b"x" * 1001),
        member("a.no", b"1"),
    ]
    found = listed(archive(*refused, member("good", b"1")))
    plain = "tar member is no plain file"
    assert found == [
        *[plain] * 5,
        *["bad member name"] * 5,
        "tar member too large",
        "tar member not used",
        ("good", b"1"),
    ]


def test_sparse_files_are_refused_and_the_next_member_is_found():
    header = bytearray(member("sparse", b"x" * 600)[0].tobuf(tarfile.GNU_FORMAT))
    header[156:157], header[482] = b"S", 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    more = bytearray(512)
    old = bytes(header) + bytes(more) + b"x" * 600 + bytes(424)
    new = archive(
        member("s", b"x", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.name": "s"}), format=tarfile.PAX_FORMAT
    )
    good = archive(member("good", b"1"))
    assert listed(old + good) == ["tar member is no plain file", ("good", b"1")]
    assert listed(new[:-9216] + good)[0] == "tar member is no plain file"


def test_cut_and_damaged_archives_keep_what_came_before():
    whole = archive(member("a", b"1" * 600), member("b", b"2" * 600))
    assert listed(whole) == [("a", b"1" * 600), ("b", b"2" * 600)]
    for size in (512 + 1024 + 512 + 100, 512 + 1024 + 100, 512 + 1024):  # in a member, in a header, between two
        assert listed(whole[:size]) == [("a", b"1" * 600), "damaged or cut file"]
    broken = bytearray(whole)
    broken[512 + 1024 + 3] ^= 1
    assert listed(bytes(broken)) == [("a", b"1" * 600), "damaged or cut file"]
    assert listed(b"") == ["damaged or cut file"]
    assert listed(b"no tar at all" * 100) == ["damaged or cut file"]


def test_archives_behind_one_another_are_read_as_one():
    assert listed(archive(member("a", b"1")) + archive(member("b", b"2"))) == [("a", b"1"), ("b", b"2")]


@pytest.mark.parametrize("size", [b"-0000000001\0", b"9999999999z\0", b"\xff" * 12, b"+0000000001\0", b"1_000000000\0"])
def test_sizes_that_are_none(size):
    header = bytearray(member("a", b"")[0].tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert listed(bytes(header) + bytes(1024)) == ["damaged or cut file"]


def test_sizes_in_base_256():
    header = bytearray(member("a", b"")[0].tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"\x80" + (3).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert listed(bytes(header) + b"abc" + bytes(509 + 1024)) == [("a", b"abc")]
    header[124:136] = b"\x80" + (1 << 80).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert listed(bytes(header) + bytes(1024)) == ["damaged or cut file"]


@pytest.mark.parametrize("field", [b"x path=a\n", b"99999 path=a\n", b"0 path=a\n", b"5", b"12345678901 a=b\n"])
def test_broken_pax_fields_refuse_the_member(field):
    header = archive(member("pax", field, type=tarfile.XHDTYPE))[:1024]
    assert listed(header + archive(member("a", b"1"), member("b", b"2"))) == ["bad tar header", ("b", b"2")]


def test_a_large_header_takes_no_memory():
    size = 128 << 20
    header = member("x", type=tarfile.XHDTYPE)[0]
    header.size = size
    packed = gzip.compress(header.tobuf(tarfile.USTAR_FORMAT)) + gzip.compress(bytes(1 << 20)) * (size >> 20)
    packed += gzip.compress(archive(member("a", b"1")))
    tracemalloc.start()
    found = list(tar.members(gzip.GzipFile(fileobj=io.BytesIO(packed)), "x.tar", lambda name: 1000))
    assert [one.reason for one in found] == ["tar header too large"]
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
