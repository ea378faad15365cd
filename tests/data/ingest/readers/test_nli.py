import pytest

from paligax.data.ingest.readers.nli import Xnli
from tests.data.ingest.readers.reading import read, reasons

XNLI = (
    "language", "gold_label", "sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse", "sentence2_parse",
    "sentence1", "sentence2", "promptID", "pairID", "genre", "label1", "label2", "label3", "label4", "label5", "match",
)  # fmt: skip


def line(lang, label, first, second, pair):
    return (lang, label, "", "", "", "", first, second, "1", pair, "facetoface", label, "", "", "", "", "True")


def put(file, *rows):
    file.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def pairs(records):
    return [(r["text_lang"], r["text"], r["qa"][0]["question"], r["qa"][0]["answer"]) for r in records]


def test_xnli(tmp_path):
    path = put(
        tmp_path / "xnli.dev.tsv",
        XNLI,
        line("ar", "neutral", "وقال، ماما", "اتصل بأمه", "1"),
        line("en", "contradiction", 'And he said, "Mama', "He didn't say a word.", "2"),
        line("en", "-", "a", "b", "3"),
        line("en", "maybe", "a", "b", "4"),
        ("en", "neutral"),
    )
    records, problems = read(Xnli(path))
    assert pairs(records) == [
        ("ar", "وقال، ماما", "اتصل بأمه", "neutral"),
        ("en", 'And he said, "Mama', "He didn't say a word.", "contradiction"),
    ]
    assert [(r["id"], r["qa"][0]["lang"], r["source"]) for r in records] == [("1", "ar", "xnli"), ("2", "en", "xnli")]
    assert sorted(reasons(problems)) == [
        "annotators disagree", "pair without sentence or label", "table row of another length",
    ]  # fmt: skip


def test_translations_and_tables_without_names(tmp_path):
    put(tmp_path / "multinli.train.de.tsv", ("premise", "hypo", "label"), ("Ein Haus.", "Kein Haus.", "contradictory"))
    put(tmp_path / "train-en.tsv", ("A house.", "A home.", "entailment"))
    multinli = ("index", "gold_label", "sentence1", "sentence2", "pairID")
    put(tmp_path / "multinli_1.0_train.txt", multinli, ("0", "neutral", "One.", "Two.", "31193n"))
    records, problems = read(Xnli(str(tmp_path)))
    assert pairs(records) == [
        ("de", "Ein Haus.", "Kein Haus.", "contradiction"),
        ("en", "One.", "Two.", "neutral"),
        ("en", "A house.", "A home.", "entailment"),
    ]
    assert [r["id"] for r in records] == ["multinli.train.de.tsv:2", "31193n", "train-en.tsv:1"] and not problems
    assert pairs(read(Xnli(str(tmp_path / "train-en.tsv"), lang="sw"))[0])[0][0] == "sw"


def test_another_table_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected columns sentence1"):
        list(Xnli(put(tmp_path / "x.tsv", ("a", "b"), ("c", "d"))).units())
