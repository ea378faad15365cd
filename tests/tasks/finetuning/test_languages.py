import pytest

from paligax import metrics
from tasks.finetuning.languages import Spoken, by_language, spoken


def test_each_language_counts_once_in_the_mean():
    targets = [
        Spoken("en", ["a"]),
        Spoken("en", ["b", "c"]),
        Spoken("en", ["d"]),
        Spoken("de", ["e"]),
        Spoken("", ["f"]),
    ]
    metric = by_language(metrics.METRIC_FNS["exact_match"])
    scores = metric(targets, ["a", "c", "x", "x", "f"])
    assert list(scores) == ["mean_exact_match", "exact_match_de", "exact_match_en", "exact_match_und"]
    assert scores == pytest.approx(
        {"mean_exact_match": 5 / 9, "exact_match_de": 0, "exact_match_en": 2 / 3, "exact_match_und": 1}
    )


def test_a_metric_of_several_figures():
    targets = [Spoken("fi", ["a b", "a"]), Spoken("sw", ["c d"])]
    scores = by_language(metrics.METRIC_FNS["squad"])(targets, ["a b", "c"])  # "a" is an article
    assert list(scores)[:2] == ["mean_squad_exact_match", "mean_squad_f1"]
    assert scores["squad_f1_sw"] == pytest.approx(2 / 3) and scores["mean_squad_exact_match"] == 0.5
    assert by_language(metrics.METRIC_FNS["squad"])([], []) == {}


def test_what_becomes_of_an_example():
    example = {"lang": b"de", "references": [b"ja", "nein"]}
    assert spoken("x", example, True) == Spoken("de", ["ja", "nein"]) and spoken("x", example, False) == "x"
