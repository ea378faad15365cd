import gzip
import hashlib
import zlib

import pytest

from paligax.data.ingest import admission
from paligax.data.ingest.readers.conceptual_captions import Cc3m, Cc12m
from tests.data.ingest.readers.reading import read, reasons
from tests.data.toy import jpeg

ROWS = [("a very typical bus station", "http://a/1.jpg"), ("the café ☕", "http://a/ü 2.png"), ("three", "http://a/3")]
CC3M = "".join(f"{caption}\t{url}\n" for caption, url in ROWS).encode()
CC12M = "".join(f"{url}\t{caption}\n" for caption, url in ROWS).encode()


def folder(tmp_path, table, **images):
    (tmp_path / "cc.tsv").write_bytes(table)
    for name, data in images.items():
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return {"path": str(tmp_path / "cc.tsv"), "images": str(tmp_path / "images")}


def test_cc3m(tmp_path):
    where = folder(tmp_path, CC3M, **{"00000/000000000.jpg": b"one", "000000001.webp": b"two"})
    records, problems = read(Cc3m(**where))
    assert records == [
        {
            "id": "cc.tsv:0",
            "image": b"one",
            "alt_text": [{"lang": "en", "text": ROWS[0][0].encode()}],
            "source": "cc3m",
        },
        {
            "id": "cc.tsv:1",
            "image": b"two",
            "alt_text": [{"lang": "en", "text": ROWS[1][0].encode()}],
            "source": "cc3m",
        },
    ]
    assert reasons(problems) == ["image missing"] and "cc.tsv line 3" in problems[0][1]


@pytest.mark.parametrize(
    "names, name",
    [
        ("index", "00000/000000001.jpg"),
        ("index", "00000/0001.jpg"),
        ("index", "000000001.jpeg"),
        ("number", "1.png"),
        ("md5", hashlib.md5(ROWS[1][1].encode()).hexdigest() + ".jpg"),
        ("sha1", hashlib.sha1(ROWS[1][1].encode()).hexdigest() + ".png"),
        ("sha256", hashlib.sha256(ROWS[1][1].encode()).hexdigest()),
        ("crc32", str(zlib.crc32(ROWS[1][1].encode()))),
    ],
)
def test_names_of_images(tmp_path, names, name):
    where = folder(tmp_path, CC12M.replace(b"\n", b"\r\n"), **{name: b"two"})
    records, problems = read(Cc12m(**where, names=names))
    assert [(r["id"], r["image"], r["source"]) for r in records] == [("cc.tsv:1", b"two", "cc12m")]
    assert records[0]["alt_text"] == [{"lang": "en", "text": ROWS[1][0].encode()}]
    assert reasons(problems) == ["image missing"] * 2


def test_rows_beyond_ten_thousand_lie_in_the_next_folder(tmp_path):
    table = b"".join(b"c%d\tu\n" % i for i in range(20_001))
    where = folder(tmp_path, table, **{"00001/000010000.jpg": b"a", "00002/0000.jpg": b"b"})
    reader = Cc3m(**where, unit_size=10)
    units = list(reader.units())
    some = [units[1000], units[2000]]
    assert len(units) == 2001 and [unit[3] for unit in some] == [10_001, 20_001]
    assert [(r["id"], r["alt_text"][0]["text"]) for r in read(reader, some)[0]] == [
        ("cc.tsv:10000", b"c10000"),
        ("cc.tsv:20000", b"c20000"),
    ]


@pytest.mark.parametrize("header, table", [(b"caption\turl\n", CC3M), (b"url\tcaption\n", CC12M)])
def test_a_header_is_no_row_and_says_the_order(tmp_path, header, table):
    where = folder(tmp_path, header + table, **{"0.jpg": b"one", "2.jpg": b"three"})
    for kind in (Cc3m, Cc12m):
        records, problems = read(kind(**where, names="number", unit_size=2))
        assert [(r["id"], r["alt_text"][0]["text"]) for r in records] == [
            ("cc.tsv:0", ROWS[0][0].encode()),
            ("cc.tsv:2", b"three"),
        ]
        assert reasons(problems) == ["image missing"]


def test_broken_rows_are_counted(tmp_path):
    table = b"one column\na\tb\tc\n\n" + b"x" * (3 << 20) + b"\nlast\tu"
    where = folder(tmp_path, table, **{"4.jpg": b"", "images.jpg": b""})
    records, problems = read(Cc3m(**where, names="number"))
    assert records == [] and reasons(problems) == ["table row is not two columns"] * 3 + ["image empty"]


def test_packed_tables(tmp_path):
    where = folder(tmp_path, gzip.compress(CC3M), **{"2.jpg": b"three"})
    assert [r["id"] for r in read(Cc3m(**where, names="number"))[0]] == ["cc.tsv:2"]


def test_the_labelled_part_of_cc3m(tmp_path):
    table = b"a bus\thttp://a/1.jpg\tbus,public transport\t/m/01bjv,/m/0ftqr\t0.97,0.9\n"
    (record,), problems = read(Cc3m(**folder(tmp_path, table, **{"00000/000000000.jpg": b"one"})))
    assert record["alt_text"] == [{"lang": "en", "text": b"a bus"}] and problems == []
    assert admission.admit({**record, "image": jpeg(1)})[0]["labels"] == ["bus", "public transport"]


def test_unknown_choices_are_told(tmp_path):
    where = folder(tmp_path, CC3M)
    with pytest.raises(ValueError, match="'md6'.*did you mean 'md5'"):
        list(Cc3m(**where, names="md6").units())
    with pytest.raises(ValueError, match=r"column_order='url' .* caption,url \| url,caption"):
        list(Cc3m(**where, column_order="url").units())
