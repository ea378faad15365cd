"""Multi-label scores against values worked out by hand."""

import math

import numpy as np
import pytest

from paligax.metrics import mean_average_precision, precision_at_1

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
