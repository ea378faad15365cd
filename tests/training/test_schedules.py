import jax
import numpy as np
import pytest

from paligax.training.schedules import Constant, CoolDown, Cosine, InverseSquareRoot


def values(schedule, steps):
    return np.asarray([jax.jit(schedule)(step) for step in steps])


def test_inverse_square_root_warms_up_and_decays_as_t5x():
    got = values(InverseSquareRoot(1e-2, 1000), [0, 499, 999, 3999, 8999])
    np.testing.assert_allclose(got, [1e-5, 5e-3, 1e-2, 5e-3, 1e-2 / 3], rtol=1e-6)


def test_constant():
    np.testing.assert_allclose(values(Constant(2.0), [0, 7]), [2, 2])
    np.testing.assert_allclose(values(Constant(2.0, 4), [0, 1, 3, 9]), [0.5, 1, 2, 2])


def test_cosine_ends_at_its_final_value():
    got = values(Cosine(2.0, 110, 10, final=0.1), [0, 9, 10, 60, 110, 500])
    np.testing.assert_allclose(got, [0.2, 2, 2, 1.1, 0.2, 0.2], rtol=1e-6)


def test_cool_down_takes_any_schedule_to_zero():
    got = values(CoolDown(Constant(3.0), 100, 10), [0, 90, 95, 99, 100, 120])
    np.testing.assert_allclose(got, [3, 3, 1.5, 0.3, 0, 0], rtol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: InverseSquareRoot(1.0, 0), "warmup_steps"),
        (lambda: Cosine(1.0, 10, 10), "less than"),
        (lambda: CoolDown(Constant(1.0), 10, 11), "cooldown_steps"),
    ],
)
def test_impossible_lengths_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
