import os

import pytest

from paligax.data.ingest import files
from paligax.data.ingest.reader import Problem


@pytest.fixture
def folder(tmp_path):
    for name in ("b.tar", "a.tar", "a.txt", "C.TAR"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "sub.tar").mkdir()
    return tmp_path


def names(path, suffixes=()):
    return [os.path.basename(found) for found in files.matching(path, suffixes)]


def test_a_folder_a_pattern_and_a_list(folder):
    assert names(str(folder), [".tar"]) == ["C.TAR", "a.tar", "b.tar"]
    assert names(f"{folder}/*.tar") == ["a.tar", "b.tar"]
    assert names(f"{folder}/b.tar,{folder}/a.txt") == ["a.txt", "b.tar"]


def test_numbers_in_braces(tmp_path):
    for number in range(12):
        (tmp_path / f"{number:05}.tar").touch()
    assert names(f"{tmp_path}/{{00002..00004}}.tar") == ["00002.tar", "00003.tar", "00004.tar"]
    assert names(f"{tmp_path}/000{{00..11}}.tar") == [f"{n:05}.tar" for n in range(12)]
    with pytest.raises(FileNotFoundError, match="00012.tar"):  # of a range nothing is missing
        files.matching(f"{tmp_path}/{{00010..00012}}.tar")
    with pytest.raises(ValueError, match="expected a range of at most"):
        files.matching(f"{tmp_path}/{{0..99999999}}.tar")


def test_nothing_matches(folder):
    with pytest.raises(FileNotFoundError, match=r"expected a file, a pattern, or a folder with \.zip or \.rar files"):
        files.matching(str(folder), [".zip", ".rar"])
    with pytest.raises(FileNotFoundError, match="Nothing matches '.*nowhere"):
        files.matching(f"{folder}/nowhere*")
    with pytest.raises(FileNotFoundError, match="Did you mean .*a.txt"):
        files.matching(f"{folder}/aa.txt")


def test_images_stay_in_their_folder(folder):
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").write_bytes(b"image")
    (folder / "images" / "empty.jpg").touch()
    inside = str(folder / "images")
    assert files.image_of(inside, "a.jpg") == files.image_of(inside, "x/../a.jpg") == b"image"
    for name in ("../a.txt", "/etc/passwd", "x/../../a.txt", "", "c:a.jpg", "a\0.jpg", "..\\a.txt"):
        assert files.image_of(inside, name).reason == "bad file name", name
    assert files.image_of(inside, "b.jpg") == Problem("image missing", os.path.join(inside, "b.jpg"))
    assert files.image_of(inside, "empty.jpg").reason == "image empty"
    assert files.image_of(inside, ".").reason == "image unreadable"
    assert files.image_of(inside, "n" * 5000).reason in ("image missing", "image unreadable")


def test_nothing_is_read_beyond_the_limit(folder, monkeypatch):
    with pytest.raises(ValueError, match="has 5 bytes; at most 4 are read"):
        files.read(str(folder / "a.txt"), 4)
    monkeypatch.setattr(files.read, "__defaults__", (4,))
    assert files.image_of(str(folder), "a.txt").reason == "image file too large"


def test_json_says_where_it_is_none(folder):
    (folder / "good.json").write_text('{"a": [1]}')
    assert files.load_json(str(folder / "good.json")) == {"a": [1]}
    with pytest.raises(ValueError, match=r"a\.txt' is not a JSON file: Expecting value: line 1"):
        files.load_json(str(folder / "a.txt"))


def test_pieces_hold_everything():
    assert list(files.pieces("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]] and list(files.pieces("", 2)) == []
