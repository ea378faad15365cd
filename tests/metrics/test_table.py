"""The table of metric functions: each is what a seqio.Task takes."""

import inspect

import numpy as np
import pytest

from paligax.metrics import LOWER_IS_BETTER, METRIC_FNS, PROBLEMS, Boxes, Question

SQUARE = Boxes([[0, 0, 0.5, 0.5]], ("cat",))
TEXTS = (["dogs run on green grass", "red cats sleep here today"],) * 2
REFERENCES = ([[text] * 10 for text in TEXTS[0]], TEXTS[1])
# What a perfect answer looks like; all others take references.
PERFECT = {
    "answerability": ([0, 1], [0.0, 1.0]),
    "character_error_rate": TEXTS,
    "word_error_rate": TEXTS,
    "list_match": TEXTS,
    "token_accuracy": ([[1, 2]], [[1, 2]]),
    "detection": ([SQUARE], [SQUARE]),
    "box_problems": ([SQUARE], [SQUARE]),
    "top_k_accuracy": ([0, 1], np.eye(2, 8)),
    "mean_average_precision": (np.eye(2), np.eye(2)),
    "precision_at_1": (np.eye(2), np.eye(2)),
}
BY_TYPE = ([Question(tuple(r), "other", "is this") for r in REFERENCES[0]], REFERENCES[1])


@pytest.mark.parametrize("name", METRIC_FNS)
def test_each_scores_a_perfect_answer(name):
    given = BY_TYPE if name.endswith("_by_type") else PERFECT.get(name, REFERENCES)
    values = METRIC_FNS[name](*given)
    assert values
    for value_name, value in values.items():
        if value_name in LOWER_IS_BETTER:
            assert value == 0
        else:
            assert value == pytest.approx(10 if value_name == "cider" else 1), value_name


@pytest.mark.parametrize("name", METRIC_FNS)
def test_each_has_the_parameters_that_seqio_asks_for(name):
    parameters = inspect.signature(METRIC_FNS[name]).parameters.values()
    assert [p.name for p in parameters if p.default is p.empty] == ["targets", "predictions"]


def test_values_of_vqa_accuracies_do_not_collide():
    names = [name for name in METRIC_FNS if "accuracy" in name and ("vqa" in name or "vizwiz" in name)]
    assert len(names) == 12
    for name in names:
        given = BY_TYPE if name.endswith("_by_type") else REFERENCES
        assert next(iter(METRIC_FNS[name](*given))) == name.removesuffix("_by_type")


def test_what_is_better_the_less():
    assert {f"malformed_{kind}" for kind in PROBLEMS} | {"malformed", "word_error_rate"} < LOWER_IS_BETTER
