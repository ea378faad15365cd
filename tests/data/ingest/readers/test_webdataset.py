import gzip
import hashlib
import io
import json
import tarfile

import pytest

from paligax.data.ingest.readers.webdataset import WebDataset, split
from tests.data.ingest.readers.reading import read, reasons

JPEG = b"\xff\xd8\xff jpeg \xff\xd9"


def archive(path, members):
    with tarfile.open(path, "w") as written:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            written.addfile(info, io.BytesIO(data))
    return str(path)


def meta(**other):
    """As img2dataset writes it."""
    known = {"url": "u", "key": "000000000", "status": "success", "error_message": None, "width": 256, "exif": "{}"}
    return json.dumps({**known, **other}, indent=4).encode()


def test_an_img2dataset_tar(tmp_path):
    path = archive(
        tmp_path / "00003.tar",
        {
            "000030000.jpg": JPEG,
            "000030000.txt": b"a cat",
            "000030000.json": meta(caption="a cat", similarity=0.31, sha256="0" * 64, LANGUAGE="nolang"),
            "000030002.json": meta(caption="eine Katze", LANGUAGE="de", similarity=None),
            "000030002.txt": "eine Kätze".encode(),
            "000030002.jpg": JPEG + b"2",
            "000030003.jpg": JPEG,
            "000030003.txt": b" \n",
            "000030003.json": meta(caption="日本語", similarity=float("nan"), score=2, lang="ja"),
        },
    )
    reader = WebDataset(str(tmp_path), source="crawl")
    assert list(reader.units()) == [path]
    records, problems = read(reader)
    assert problems == []
    assert records == [
        {
            "id": "00003/000030000",
            "image": JPEG,
            "source": "crawl",
            "alt_text": [{"lang": "", "text": b"a cat"}],
            "score": 0.31,
        },
        {
            "id": "00003/000030002",
            "image": JPEG + b"2",
            "source": "crawl",
            "alt_text": [{"lang": "de", "text": "eine Kätze".encode()}],
        },
        {
            "id": "00003/000030003",
            "image": JPEG,
            "source": "crawl",
            "alt_text": [{"lang": "ja", "text": "日本語"}],
            "score": 2.0,
        },
    ]


def test_keys_end_at_the_first_dot_behind_the_last_slash():
    assert split("a.b.jpg") == ("a", "b.jpg")
    assert split("./v1.0/a.b.JPG") == ("v1.0/a", "b.jpg")
    assert split("a") == split(".hidden") == split("d/.hidden") == split("a.") == ("", "")


def test_what_a_sample_lacks_and_has_too_much(tmp_path):
    archive(
        tmp_path / "a.tar",
        {
            "0.txt": b"without an image",
            "1.jpg": JPEG,
            "2.png": JPEG,
            "2.v2.jpg": JPEG,
            "2.txt": b"two",
            "2.cls": b"5",
            "3.jpg": b"",
            "3.txt": b"empty image",
            "4.webp": JPEG,
            "4.txt": b"",
            "d/4.gif": JPEG,
            "d/4.json": b"{broken",
            "5.jpeg": JPEG,
            "5.json": b'["a", "list"]',
            "5.txt": b"five",
            "6.jpg": JPEG,
            "6.json": b"[" * 100_000,
            "7.jpg": JPEG,
            "7.json": meta(caption=7, similarity="0.3", lang=3),
            "nothing": b"",
        },
    )
    records, problems = read(WebDataset(str(tmp_path / "*.tar"), lang="en"))
    assert [(r["id"], r.get("alt_text", [{}])[0].get("text")) for r in records] == [
        ("a/1", None),
        ("a/2", b"two"),
        ("a/4", b""),
        ("a/d/4", None),
        ("a/5", b"five"),
        ("a/6", None),
        ("a/7", None),
    ]
    assert records[1]["alt_text"][0]["lang"] == "en" and "score" not in records[6]
    assert [(reason, where.rpartition(": ")[2]) for reason, where in problems] == [
        ("image missing", "0"),
        ("caption missing", "1"),
        ("second image of a sample", "2.v2.jpg"),
        ("tar member not used", "2.cls"),
        ("image empty", "3"),
        ("bad JSON", "d/4"),
        ("caption missing", "d/4"),
        ("bad JSON", "5"),
        ("bad JSON", "6"),
        ("caption missing", "6"),
        ("tar member not used", "nothing"),
        ("caption missing", "7"),
    ]


def test_checksums_are_compared_where_asked_for(tmp_path):
    right = {"sha256": hashlib.sha256(JPEG).hexdigest().upper()}, {"md5": hashlib.md5(JPEG).hexdigest()}, {}
    wrong = {"sha256": "0" * 64}, {"md5": "no hash"}
    members = {}
    for i, other in enumerate([*right, *wrong]):
        members |= {f"{i}.jpg": JPEG, f"{i}.json": meta(caption="c", **other)}
    archive(tmp_path / "a.tar", members)
    assert len(read(WebDataset(str(tmp_path)))[0]) == 5
    records, problems = read(WebDataset(str(tmp_path), verify=True))
    assert [r["id"] for r in records] == ["a/0", "a/1", "a/2"] and reasons(problems) == ["checksum differs"] * 2


@pytest.mark.parametrize("packed", [False, True])
def test_cut_tars_keep_their_samples(tmp_path, packed):
    path = archive(tmp_path / "a.tar", {f"{i}.{s}": JPEG * 50 for i in range(20) for s in ("jpg", "txt")})
    data = open(path, "rb").read()
    (tmp_path / "a.tar").unlink()
    name = tmp_path / ("a.tar.gz" if packed else "b.tar")
    name.write_bytes(gzip.compress(data))
    if packed:
        assert len(read(WebDataset(str(tmp_path)))[0]) == 20
    name.write_bytes(gzip.compress(data, 0)[:20_000] if packed else data[:20_000])
    records, problems = read(WebDataset(str(tmp_path)))
    # A sample takes 3072 bytes: the caption of the seventh is cut.
    assert [r["id"] for r in records] == [f"{name.name[0]}/{i}" for i in range(6)]
    assert reasons(problems) == ["damaged or cut file", "sample without its end"]


def test_large_members_are_left_out(tmp_path):
    archive(tmp_path / "a.tar", {"0.jpg": JPEG, "0.txt": b"x" * (2 << 20), "1.jpg": JPEG, "1.txt": b"one"})
    records, problems = read(WebDataset(str(tmp_path)))
    assert [r["id"] for r in records] == ["a/0", "a/1"]
    assert reasons(problems) == ["tar member too large", "caption missing"]


def test_a_folder_without_tars_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\.tar"):
        list(WebDataset(str(tmp_path)).units())
