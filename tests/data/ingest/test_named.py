import math

import pytest

from paligax.data.ingest import named


def test_a_function_is_found():
    assert named.function("math:sqrt", "a root") is math.sqrt


@pytest.mark.parametrize("place", ["math", "math.sqrt", ":sqrt", "math:", ""])
def test_the_form_is_told(place):
    with pytest.raises(ValueError, match="doesn't name a root: expected MODULE:FUNCTION"):
        named.function(place, "a root")


def test_the_nearest_name_is_told():
    with pytest.raises(ValueError, match="'math' has no function 'sqr', a root; did you mean 'sqrt'"):
        named.function("math:sqr", "a root")
    with pytest.raises(ValueError, match="has no function 'pi', a root"):
        named.function("math:pi", "a root")


def test_a_missing_module_is_told():
    with pytest.raises(ImportError, match="'no_such_module:f', a root, cannot be imported"):
        named.function("no_such_module:f", "a root")
