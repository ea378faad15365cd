"""CIDEr-D against the official scorer."""

import numpy as np
import pytest

from paligax.metrics import cider, cider_scores

REFERENCES = [
    ["a dog runs on the green grass", "the dog is running in a field of grass", "dog on grass"],
    ["two red cats sleep on a sofa", "cats sleeping on the sofa"],
    [
        "a man rides a horse on the beach at sunset",
        "a person riding a horse by the sea",
        "horse and rider on a beach",
    ],
    ["three birds", "birds on a wire three birds on a wire"],
]
PREDICTIONS = [
    "a dog runs on the grass",
    "two red cats sleep on a sofa",
    "a horse a horse a horse on the beach",
    "birds birds birds birds birds",
]


def test_agrees_with_the_official_scorer():
    # Values of pycocoevalcap 1.2: CiderScorer(n=4, sigma=6.0).compute_score() on the same texts.
    np.testing.assert_allclose(
        cider_scores(REFERENCES, PREDICTIONS), [3.21339205, 5.60627825, 1.3579638, 0.42291735], rtol=1e-7
    )
    assert cider(REFERENCES, PREDICTIONS) == pytest.approx(2.6501378630336676)


def test_bounds():
    texts = ["a dog runs on grass", "two red cats sleep here"]
    np.testing.assert_allclose(cider_scores([[t] for t in texts], texts), [10, 10])
    np.testing.assert_allclose(cider_scores([[t] for t in texts], texts[::-1]), [0, 0])
    # Two words have no three- and four-grams.
    np.testing.assert_allclose(cider_scores([["red cat"], ["blue dog"]], ["red cat", "blue dog"]), [5, 5])
    np.testing.assert_allclose(cider_scores([["red cat"], ["blue dog"]], ["", "blue dog"]), [0, 5])
