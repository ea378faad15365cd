"""ANLS against values worked out by hand."""

import math

import numpy as np
import pytest

from paligax.metrics import anls, anls_scores


@pytest.mark.parametrize(
    "references, prediction, score",
    [
        (["Room B12"], "room  b12", 1.0),  # case and blanks
        (["kitten"], "sitting", 1 - 3 / 7),
        (["kitten", "sittings"], "sitting", 1 - 1 / 8),  # the nearest
        (["abcd"], "abxy", 0.5),  # exactly the threshold counts
        (["abcde"], "abxyz", 0.0),  # 0.4 does not
        ([""], "", 1.0),
        (["a"], "", 0.0),
        (["a   b"], "a c", 1 - 1 / 5),  # 1 edit of "a b", over the 5 letters of the text as it is
    ],
)
def test_by_hand(references, prediction, score):
    assert anls_scores([references], [prediction])[0] == pytest.approx(score)


def test_mean_and_threshold():
    targets, predictions = [["kitten"], ["dog"], []], ["sitting", "dog", "x"]
    assert anls(targets, predictions) == {"anls": pytest.approx((1 + 4 / 7) / 2)}
    assert anls(targets, predictions, threshold=0.6) == {"anls": 0.5}
    np.testing.assert_array_equal(np.isnan(anls_scores(targets, predictions)), [False, False, True])
    assert math.isnan(anls([[]], ["x"])["anls"])
