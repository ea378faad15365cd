import bz2

import pytest

from paligax.data.ingest.readers.crossmodal import Coco35L, Xm3600
from tests.data.ingest.readers.annotated import admitted, put_images, put_lines
from tests.data.ingest.readers.reading import read


def line(caption, english, lang, translation, **other):
    return {
        "image_id": caption,
        "src_lang": "en",
        "caption_tokenized": english,
        "trg_lang": lang,
        "translation_tokenized": translation,
        "backtranslation_tokenized": english.upper(),
        **other,
    }


LINES = [
    line("391895_0", "a man on a bike", "de", "ein Mann auf einem Fahrrad"),
    line("391895_1", "a cat", "de", "eine Katze"),
    line("522418_2", "a woman", "th", "ผู้หญิง"),
    line("391895_0", "a man on a bike", "zh", "骑自行车的人"),
    '{"image_id": "391895_0", "trg_lang": "f',
    line("391895_0", "x", "fr", None),
    line("abc_0", "x", "fr", "y"),
    line("7_0", "x", None, "y"),
    line(7, "x", "fr", "no caption's number"),
    "[1]",
    "",
]


@pytest.mark.parametrize("folder", ["", "val2014/", "train2014/"])
def test_coco_35l(tmp_path, folder):
    part = folder.strip("/") or "val2014"
    put_images(tmp_path, *(f"{folder}COCO_{part}_{n:012d}.jpg" for n in (391895, 522418)))
    path = put_lines(tmp_path / "coco_mt_dev.jsonl", *LINES)
    records, problems = read(Coco35L(path=path, images=str(tmp_path)))
    assert [r["id"] for r in records] == ["391895", "522418"]
    assert admitted(records[0])[0] == {
        "id": "391895",
        "image": records[0]["image"],
        "source": "coco_35l",
        "alt_text/lang": ["en", "de", "en", "de", "zh"],
        "alt_text/text": ["a man on a bike", "ein Mann auf einem Fahrrad", "a cat", "eine Katze", "骑自行车的人"],
    }
    assert records[1]["alt_text"] == {"lang": ["en", "th"], "text": ["a woman", "ผู้หญิง"]}
    assert problems == [
        ("line is not JSON", f"{path}:5"),
        *(("no image, language or translation", f"{path}:{n}") for n in (6, 7, 8, 10)),
        ("image missing", f"{tmp_path}/COCO_train2014_000000000007.jpg"),
    ]


def test_coco_35l_packed_and_with_the_images_of_2017(tmp_path):
    put_images(tmp_path, "train2017/000000391895.jpg")
    (tmp_path / "x").write_text(put_lines(tmp_path / "a.jsonl", *LINES[:2]) and (tmp_path / "a.jsonl").read_text())
    (tmp_path / "coco_mt_train.jsonl.bz2").write_bytes(bz2.compress((tmp_path / "x").read_bytes()))
    records, problems = read(Coco35L(path=str(tmp_path / "coco_mt_train.jsonl.bz2"), images=str(tmp_path)))
    assert problems == [] and len(records[0]["alt_text"]["text"]) == 4


def captions(*texts):
    return {"caption": list(texts), "caption/tokenized": [t + " ." for t in texts], "caption/tokenized/lowercase": []}


def test_xm3600(tmp_path):
    put_images(tmp_path, "000411001ff7dd4f.jpg", "0005ba2d1fb5a7ac.jpg")
    path = put_lines(
        tmp_path / "captions.jsonl",
        {
            "image/key": "000411001ff7dd4f",
            "image/locale": "quz",
            "ar": captions("سيارة"),
            "quz": captions("huk sach'a", "hatun"),
            "en": captions("A tree", "", "Trees."),
        },
        {"image/key": "0005ba2d1fb5a7ac", "en": {"caption": "not a list"}, "de": {"caption": [None, "Haus"]}},
        {"image/key": "missing", "en": captions("x")},
        {"image/key": "000411001ff7dd4f", "en": captions("again")},
        {"en": captions("no key")},
        '{"image/key": "cut',
    )
    records, problems = read(Xm3600(path=path, images=str(tmp_path), unit_size=2))
    assert records[0]["id"] == "000411001ff7dd4f" and records[0]["source"] == "xm3600"
    assert list(zip(*records[0]["alt_text"].values(), strict=True)) == [
        ("ar", "سيارة"),
        ("quz", "huk sach'a"),
        ("quz", "hatun"),
        ("en", "A tree"),
        ("en", ""),
        ("en", "Trees."),
    ]
    assert admitted(records[0])[1] == ["empty text"]
    assert records[1]["alt_text"] == {"lang": ["de"], "text": ["Haus"]}
    assert problems == [
        ("caption is no text", f"{path}:2"),
        ("caption is no text", f"{path}:2"),
        ("image listed twice", f"{path}:4"),
        ("no image key", f"{path}:5"),
        ("line is not JSON", f"{path}:6"),
        ("image missing", f"{tmp_path}/missing.jpg"),
    ]


@pytest.mark.parametrize("cls", [Coco35L, Xm3600])
def test_no_file(cls):
    with pytest.raises(FileNotFoundError):
        list(cls(path="/nowhere/a.jsonl", images="x").units())
