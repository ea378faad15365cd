"""Scores of classification against values worked out by hand, and figures of scikit-learn."""

import json
import math
import pathlib

import numpy as np
import pytest

from paligax.metrics import mean_average_precision, precision_at_1, top_k_accuracy

LABELS = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])


def test_mean_average_precision_by_hand():
    scores = np.array([[0.9, 0.8, 0.0], [0.5, 0.1, 0.0], [0.2, 0.9, 0.0]])
    # class 0: present at ranks 1 and 3: (1 + 2/3) / 2; class 1: ranks 1 and 3; class 2 never occurs
    assert mean_average_precision(LABELS, scores) == pytest.approx((1 + 2 / 3) / 2)
    assert mean_average_precision(LABELS, LABELS.astype(float)) == 1.0


def test_equal_scores_get_the_share_of_the_class():
    assert mean_average_precision(LABELS[:, :2], np.zeros((3, 2))) == pytest.approx(2 / 3)


def test_precision_at_1():
    scores = np.array([[0.9, 0.8, 0.0], [0.5, 0.1, 0.0], [0.2, 0.9, 0.0]])
    assert precision_at_1(LABELS, scores) == pytest.approx(2 / 3)


def test_no_labels_at_all():
    assert math.isnan(mean_average_precision(np.zeros((2, 2)), np.zeros((2, 2))))
    assert math.isnan(precision_at_1(np.zeros((2, 2)), np.zeros((2, 2))))
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(2, 3\)"):
        precision_at_1(np.zeros((2, 2)), np.zeros((2, 3)))


def test_top_k_accuracy_equals_scikit_learn():
    case = json.loads((pathlib.Path(__file__).parent / "cases" / "classification.json").read_text())["top_k"]
    found = top_k_accuracy(case["targets"], np.array(case["scores"]), ks=(1, 3, 5))
    assert found == {
        "accuracy": pytest.approx(case["accuracy"]["1"]),
        "top_3_accuracy": pytest.approx(case["accuracy"]["3"]),
        "top_5_accuracy": pytest.approx(case["accuracy"]["5"]),
    }


def test_top_k_accuracy_by_hand():
    scores = np.log([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])
    assert top_k_accuracy([0, 2, 1], scores, ks=(1, 2, 3)) == {
        "accuracy": pytest.approx(1 / 3),  # of equal scores the first class is the higher
        "top_2_accuracy": 1.0,
    }
    assert top_k_accuracy([1], [[-np.inf, 0.0]]) == {"accuracy": 1.0}
    with pytest.raises(ValueError, match=r"indices 0 … 1; got \[2\]"):
        top_k_accuracy([2], [[0.0, 1.0]])
    with pytest.raises(ValueError, match="1 of 2 examples have a score of NaN"):
        top_k_accuracy([0, 0], [[0.0, 1.0], [np.nan, 1.0]])
    with pytest.raises(ValueError, match=r"\(2,\) and \(1, 2\)"):
        top_k_accuracy([0, 0], [[0.0, 1.0]])
