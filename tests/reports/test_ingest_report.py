import pathlib
import re
import uuid

import pytest

from paligax.reports.ingest_report import page_path, write_ingest_report

SUMMARY = {
    "split": "train",
    "source": {"source": {"kind": "WebDataset", "path": "crawl/*.tar"}, "stages": [{"kind": "ScorePairs"}]},
    "shards": 2,
    "read": 1200,
    "records": 1000,
    "dropped": {"image missing": 150},
    "removed": {"score below <the> top fraction": 50},
    "problems": {"image missing": 150, "bad box": 7},
    "parts": {
        "objects": {"read": 30, "left out": 7, "dropped": 3},
        "alt_text": {"read": 9, "left out": 0, "dropped": 0},
    },
    "bytes": 10,
    "items": {"record": 1000, "alt_text": 1200, "qa": 0},
    "languages": {"alt_text en": 900, "alt_text <b>": 300},
    "sides": {"1024": 10, "256": 990},
    "samples": {
        "image missing": [{"key": "0", "name": "a.tar: <script>alert(1)</script>"}],
        "score below <the> top fraction": [
            {"key": "1", "name": "b", "text": "a <cat>", "score": "0.1000", "picture": "AAAA"},
            {"key": "2", "name": "c", "text": "", "picture": '"><script>'},
        ],
    },
}


def cells(page):
    """Rows of all tables, as texts."""
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    return [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]


def test_what_was_read_is_accounted_for(tmp_path):
    path = write_ingest_report(tmp_path / "deep" / "ingest-train.html", SUMMARY)
    page = (tmp_path / "deep" / "ingest-train.html").read_text()
    assert path == str(tmp_path / "deep" / "ingest-train.html")
    rows = cells(page)
    for row in (
        ["read", "1,200", "100.00%"],
        ["written", "1,000", "83.33%"],
        ["left out: image missing", "150", "12.50%"],
        ["removed: score below &lt;the&gt; top fraction", "50", "4.17%"],
        ["objects", "30", "7", "3", "20"],
        ["captions", "9", "0", "0", "9"],
        ["alt_text", "1,200"],
        ["256 … 511", "990", "99.00%"],
    ):
        assert row in rows, row
    assert "WebDataset(path=crawl/*.tar) → ScorePairs" in page and "bad box (7)" in page
    assert ["qa", "0"] not in rows  # there are none


def test_foreign_words_stay_words(tmp_path):
    page = open(write_ingest_report(tmp_path / "a.html", SUMMARY)).read()
    assert "<script>" not in page and "<b>" not in page and "a &lt;cat&gt;" in page
    assert page.count("<img ") == 1 and 'src="data:image/jpeg;base64,AAAA"' in page


def test_a_page_on_another_store():
    fsspec = pytest.importorskip("fsspec")
    directory = f"memory://{uuid.uuid4().hex}/data"
    path = write_ingest_report(page_path(directory, "train"), SUMMARY)
    assert path == f"{directory}/ingest-train.html"
    with fsspec.open(path) as f:
        assert b"1,000 records in 2 shards" in f.read()


def test_a_page_in_a_bucket(tmp_path, monkeypatch):
    """The bucket's own driver is etils', given what it is given."""
    from etils import epath

    (tmp_path / "gs:/bucket").mkdir(parents=True)
    monkeypatch.setattr(epath, "Path", lambda path: pathlib.Path(tmp_path, path))
    assert write_ingest_report("gs://bucket/ingest-train.html", SUMMARY) == "gs://bucket/ingest-train.html"
    assert "1,000 records" in (tmp_path / "gs:/bucket/ingest-train.html").read_text()
