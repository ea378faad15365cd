import jax
import numpy as np
import pytest

from paligax.training import trees
from paligax.training.treatments import OTHERWISE, Frozen, Trained, assign, merge, split, summary

NAMES = ["language/encoder/kernel", "language/encoder_relpos", "vision/blocks/kernel", "vision/norm/scale"]


def test_each_parameter_gets_the_one_row_that_matches_its_whole_name():
    slow = Trained(learning_rate_scale=0.1)
    assigned = assign((("vision/.*", Frozen()), (".*_relpos", slow), (OTHERWISE, Trained())), NAMES)
    assert assigned == {NAMES[0]: Trained(), NAMES[1]: slow, NAMES[2]: Frozen(), NAMES[3]: Frozen()}


def test_ambiguity_is_an_error_that_lists_the_names_whatever_the_order():
    rows = (("vision/.*", Frozen()), (".*", Trained()))
    for table in (rows, rows[::-1]):
        with pytest.raises(ValueError) as caught:
            assign(table, NAMES)
        assert "vision/blocks/kernel is matched by 2 rows" in str(caught.value)
        assert "vision/norm/scale is matched by 2 rows" in str(caught.value)


def test_unmatched_parameters_and_idle_rows_are_errors():
    with pytest.raises(ValueError) as caught:
        assign((("language/.*", Trained()), ("vison/.*", Frozen())), NAMES)
    assert "vision/norm/scale is matched by no row" in str(caught.value)
    assert "row 'vison/.*' matches no parameter; the nearest is vision/" in str(caught.value)


def test_two_rows_for_the_rest_and_bad_regexes_are_errors():
    with pytest.raises(ValueError, match="there can be one"):
        assign(((OTHERWISE, Trained()), (OTHERWISE, Frozen())), NAMES)
    with pytest.raises(ValueError, match="no regular expression"):
        assign((("vision/(", Frozen()),), NAMES)


def test_split_and_merge():
    params = trees.unflatten({name: i for i, name in enumerate(NAMES)})
    trained, frozen = split(params, assign((("vision/.*", Frozen()), (OTHERWISE, Trained())), NAMES))
    assert set(trained) == {"language"} and set(frozen) == {"vision"}
    assert merge(trained, frozen) == params


def test_summary_counts_parameters_a_row():
    table = (("vision/.*", Frozen()), (OTHERWISE, Trained(weight_decay=0.1)))
    shapes = trees.unflatten({name: jax.ShapeDtypeStruct((10, 20), np.float32) for name in NAMES})
    text = summary(table, assign(table, NAMES), shapes)
    assert "vision/.*" in text and "2 arrays            400 parameters  Frozen()" in text
    assert "400 of 800 parameters are trained" in text
