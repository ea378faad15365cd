"""SQuAD's and MLQA's scores against figures of their official scorers, which cases/squad.json holds."""

import json
import pathlib

import pytest

from paligax.metrics import mlqa, normalise_mlqa, normalise_squad, squad

EXAMPLES = json.loads((pathlib.Path(__file__).parent / "cases" / "squad.json").read_text(encoding="utf-8"))["examples"]
ROWS = [(language, row) for language, rows in EXAMPLES.items() for row in rows]


@pytest.mark.parametrize("language, row", ROWS)
def test_equals_the_official_scorers(language, row):
    references, prediction = [row["references"]], [row["prediction"]]
    assert normalise_squad(row["prediction"]) == row["squad"]["normalised"]
    assert normalise_mlqa(row["prediction"], language) == row["mlqa"]["normalised"]
    scored = ((row["squad"], squad(references, prediction)), (row["mlqa"], mlqa(references, prediction, language)))
    for official, found in scored:
        assert found["squad_exact_match"] == official["exact_match"]
        assert found["squad_f1"] == pytest.approx(official["f1"], abs=1e-12)


def test_means_over_the_set():
    targets, predictions = [["a red cat"], ["dog", "the big dog"], []], ["red cat", "big dogs dog", "x"]
    found = squad(targets, predictions)
    assert found == {"squad_exact_match": pytest.approx(1 / 3), "squad_f1": pytest.approx((1 + 2 * 2 / 5) / 3)}


@pytest.mark.parametrize(
    "language, text, expected",
    [
        ("ru", "«Красный» кот.", "красный кот"),
        ("ja", "東京タワー tower", "東 京 タ ワ ー tower"),
        ("th", "แมว", "แ ม ว"),
        ("fi", "A the koira", "a the koira"),  # nothing is dropped
    ],
)
def test_languages_beyond_the_official_scorer(language, text, expected):
    assert normalise_mlqa(text, language) == expected


def test_unknown_languages_are_told():
    with pytest.raises(ValueError, match="language 'eng' .is it 'en'"):
        normalise_mlqa("cat", "eng")
