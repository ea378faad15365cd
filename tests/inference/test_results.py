import json

import numpy as np
import pytest

from paligax import metrics
from paligax.inference import results
from paligax.inference.held_out import HeldOut
from paligax.inference.intervals import Interval
from paligax.inference.scoring import Answer
from paligax.inference.shown import Shown

PROBLEMS = {"skipped": {"broken image": 2}, "targets_too_long": 1}
ABOUT = {"checkpoint": "runs/x/checkpoints/3", "split": "test"}


@pytest.fixture
def found():
    answers = [
        Answer(i, Shown(f"r{i}", "what?", "cat", "dög", "cat", s, np.zeros((2, 2, 3))), ["cat"], "dög", b, ("empty",))
        for i, (s, b) in enumerate([(0.0, "cat"), (None, None)])
    ]
    nan = float("nan")
    scores = {"vqa": {"exact_match": 0.0, "token_f1": 0.5, "blind": 1.0}, "detection": {"ap50": nan, "odd": nan}}
    return HeldOut(
        scores,
        {"vqa": [], "detection": []},
        {"vqa": 2, "detection": 1},
        {"vqa": 1.5, "detection": 0.1},
        {"vqa": PROBLEMS, "detection": {"skipped": {}}},
        {"vqa": {"exact_match": Interval(0.0, 0.25, 1000, "percentile", "mean")}},
        {"vqa": answers, "detection": []},
    )


def test_what_results_json_holds(found, tmp_path):
    path = results.write(tmp_path / "eval", found, ABOUT)
    read = json.loads(path.read_text())
    assert (read["format"], read["checkpoint"], read["split"]) == (1, "runs/x/checkpoints/3", "test")
    assert read["tasks"]["vqa"] == {
        "headline": "exact_match",
        "lower_is_better": False,
        "metrics": {"exact_match": 0.0, "token_f1": 0.5},
        "blind": 1.0,
        "examples": 2,
        "blind_examples": 1,
        "confidence_intervals": {
            "exact_match": {"low": 0.0, "high": 0.25, "resamples": 1000, "method": "percentile", "of": "mean"}
        },
        "undefined": {},
        "problems": PROBLEMS,
        "seconds": 1.5,
    }


def test_a_value_that_is_no_number_is_null_and_says_why(found, tmp_path):
    read = json.loads(results.write(tmp_path, found, ABOUT).read_text())["tasks"]["detection"]
    assert read["metrics"] == {"ap50": None, "odd": None} and read["blind"] is None
    assert read["undefined"] == {
        "ap50": "no example has a true box",
        "odd": "the metric function gave no number for these 1 examples",
    }


@pytest.mark.parametrize("name", ["vqa_accuracy", "vizwiz_accuracy", "vqa_accuracy_2017", "mean_average_precision"])
def test_known_reasons(name):
    reason = results.why_undefined(name, 3)
    empty = np.zeros((3, 2))
    given = ([[]] * 3, ["a"] * 3) if "accuracy" in name else (empty, empty)
    assert np.isnan(metrics.METRIC_FNS[name](*given)[name])
    assert "gave no number" not in reason


def test_every_example_is_a_line_of_predictions(found, tmp_path):
    results.write(tmp_path, found, ABOUT)
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["r0", "r1"] and [line["position"] for line in lines] == [0, 1]
    assert lines[0] == {
        "task": "vqa",
        "id": "r0",
        "position": 0,
        "prompt": "what?",
        "target": "cat",
        "prediction": "dög",
        "blind_prediction": "cat",
        "score": 0.0,
        "problems": ["empty"],
    }
    assert not list(tmp_path.glob("*.partial"))
