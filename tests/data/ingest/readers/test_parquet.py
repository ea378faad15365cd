import math

import numpy as np
import pytest

from paligax.data.ingest.readers.parquet import Parquet
from tests.data.ingest.readers.reading import read, reasons

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def written(path, columns, rows=1000, **other):
    pq.write_table(pa.table(columns), path, row_group_size=rows, **other)
    return str(path)


def hugging_face(images):
    """As datasets.Image columns are stored."""
    return pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def test_a_hugging_face_file(tmp_path):
    images = [{"bytes": b"%d" % i, "path": f"{i}.jpg"} for i in range(5)]
    images[2], images[3], images[4] = None, {"bytes": None, "path": "3.jpg"}, {"bytes": b"", "path": None}
    path = written(tmp_path / "a.parquet", {"image": hugging_face(images), "text": ["a", "日本", "c", "d", "e"]})
    records, problems = read(Parquet(path, lang="en"))
    assert records == [
        {"id": "a.parquet:0", "image": b"0", "alt_text": [{"lang": "en", "text": "a"}], "source": "parquet"},
        {"id": "a.parquet:1", "image": b"1", "alt_text": [{"lang": "en", "text": "日本"}], "source": "parquet"},
    ]
    assert problems == [("image missing", f"{path} row {row}") for row in (2, 3, 4)]
    (tmp_path / "3.jpg").write_bytes(b"three")
    assert [r["image"] for r in read(Parquet(path, images=str(tmp_path)))[0]] == [b"0", b"1", b"three"]


def test_laion_like_columns(tmp_path):
    columns = {
        "key": ["000000000", "000000001", "000000002"],
        "jpg": pa.array([b"one", None, b"three"], pa.large_binary()),
        "txt": pa.array(["a", "b", None]),
        "LANGUAGE": ["de", None, ""],
        "similarity": pa.array([0.25, 0.5, math.nan], pa.float32()),
        "punsafe": [0.0, 1.0, 2.0],
    }
    path = written(tmp_path / "00000.parquet", columns)
    names = {"image": "jpg", "text": "txt", "id": "key", "language": "LANGUAGE", "score": "similarity"}
    records, problems = read(Parquet(path, **names))
    assert records[0] == {
        "id": "000000000",
        "image": b"one",
        "alt_text": [{"text": "a", "lang": "de"}],
        "score": 0.25,
        "source": "parquet",
    }
    assert records[1]["id"] == "000000002" and "alt_text" not in records[1] and math.isnan(records[1]["score"])
    assert reasons(problems)[0] == "image missing" and len(records) == 2


def test_lists_structs_and_dotted_names(tmp_path):
    columns = {
        "images": pa.array([[{"bytes": b"1"}], [{"bytes": b"2"}, {"bytes": b"3"}], []]),
        "captions": [["one", "eins"], ["x"], ["y"]],
        "meta": [{"cap": {"en": "deep"}, "qa": [{"q": "what?", "a": "it"}, {"q": "who?", "a": "me"}]}, None, None],
        "alt": [[{"text": "struct", "lang": "sv"}], None, None],
        "a.b": [1, 2, 3],
    }
    path = written(tmp_path / "a.parquet", columns)
    records, problems = read(Parquet(path, image="images", text="captions", id="a.b", lang="en"))
    assert records == [
        {
            "id": "1",
            "image": b"1",
            "alt_text": [{"lang": "en", "text": "one"}, {"lang": "en", "text": "eins"}],
            "source": "parquet",
        }
    ]
    assert reasons(problems) == ["several images", "image missing"]
    more = "meta.qa.q=qa/question,meta.qa.a=qa/answer,meta.cap.en=labels"
    records, _ = read(Parquet(path, image="images.bytes", text="alt", fields=more, lang="en"))
    assert records[0]["alt_text"] == [{"text": "struct", "lang": "sv"}] and records[0]["labels"] == ["deep"]
    assert [(i["question"], i["answer"]) for i in records[0]["qa"]] == [("what?", "it"), ("who?", "me")]
    assert [r["text"] for r in read(Parquet(path, image="", text="", fields="meta.cap.en=text"))[0][:1]] == ["deep"]


def test_file_names_in_a_folder(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    path = written(tmp_path / "a.parquet", {"image": ["a.jpg", "b.jpg", "../a.jpg", None], "text": list("abcd")})
    records, problems = read(Parquet(path, images=str(tmp_path)))
    assert [r["image"] for r in records] == [b"a"]
    assert reasons(problems) == ["image missing", "bad file name", "image missing"]
    with pytest.raises(ValueError, match="'image' is string; expected bytes"):
        list(Parquet(path).units())


def test_units_are_row_groups_and_together_the_file(tmp_path):
    for name, count in (("a", 25), ("b", 7)):
        columns = {"image": [b"%d" % i for i in range(count)], "text": [f"{name}{i}" for i in range(count)]}
        written(tmp_path / f"{name}.parquet", columns, rows=4)
    whole, problems = read(Parquet(str(tmp_path)))
    assert [r["alt_text"][0]["text"] for r in whole] == [f"a{i}" for i in range(25)] + [f"b{i}" for i in range(7)]
    assert problems == [] and whole[24]["id"] == "a.parquet:24"
    for size, first in ((1, 1), (4, 1), (9, 2), (1000, 7)):
        reader = Parquet(str(tmp_path), unit_size=size)
        units = list(reader.units())
        assert units[0][1:3] == [0, first] and read(reader)[0] == whole


def test_missing_columns_are_told_before_anything_is_read(tmp_path):
    path = written(tmp_path / "a.parquet", {"image": [b"1"], "caption": ["a"], "meta": [{"lang": "en"}]})
    with pytest.raises(ValueError, match=r"no column 'text'.*Known: image, caption, meta, meta\.lang"):
        list(Parquet(path).units())
    with pytest.raises(ValueError, match=r"'meta\.lnag'; did you mean 'meta\.lang'"):
        list(Parquet(path, text="caption", language="meta.lnag").units())
    with pytest.raises(ValueError, match=r"holds lang; name the caption, as in text=meta\.lang"):
        list(Parquet(path, text="meta").units())
    with pytest.raises(ValueError, match="'caption' is string; expected bytes"):
        list(Parquet(path, image="caption", text="").units())
    with pytest.raises(ValueError, match="No column is named"):
        list(Parquet(path, image="", text="").units())
    with pytest.raises(ValueError, match="did you mean 'labels'"):
        list(Parquet(path, fields="caption=label").units())


def test_damaged_files_are_counted(tmp_path):
    rng = np.random.default_rng(0)
    columns = {"image": [rng.bytes(2000) for _ in range(40)], "text": [str(i) for i in range(40)]}
    good = open(written(tmp_path / "a.parquet", columns, rows=10, compression="zstd"), "rb").read()
    (tmp_path / "b.parquet").write_bytes(good[: len(good) // 2])
    (tmp_path / "c.parquet").write_bytes(b"no parquet")
    (tmp_path / "d.parquet").write_bytes(b"")
    records, problems = read(Parquet(str(tmp_path)))
    assert len(records) == 40 and reasons(problems) == ["damaged or cut file"] * 3
    broken = bytearray(good)
    broken[len(good) // 2 : len(good) // 2 + 60] = bytes(60)
    (tmp_path / "a.parquet").write_bytes(broken)
    records, problems = read(Parquet(str(tmp_path / "a.parquet")))
    assert 20 <= len(records) <= 40
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(ValueError, match="none of 3 files"):
        list(Parquet(str(tmp_path)).units())


def test_texts_that_are_no_utf8(tmp_path):
    texts = pa.array([b"good", b"\xff\xfe", b"better"]).view(pa.string())
    path = written(tmp_path / "a.parquet", {"image": [b"1", b"2", b"3"], "text": texts})
    records, problems = read(Parquet(path))
    assert [(r["image"], r.get("alt_text", [{}])[0].get("text")) for r in records] == [
        (b"1", "good"),
        (b"2", None),
        (b"3", "better"),
    ]
    assert problems == [("unreadable value", f"{path} row 1: text")]


def test_other_types_are_counted(tmp_path):
    columns = {
        "image": [b"1"],
        "text": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        "when": pa.array([2**62], pa.timestamp("ms")),
        "n": [7],
    }
    path = written(tmp_path / "a.parquet", columns)
    records, problems = read(Parquet(path, id="n", fields="when=labels"))
    assert records == [{"id": "7", "image": b"1", "source": "parquet"}]
    assert reasons(problems) == ["unreadable value", "value of a wrong type"]
