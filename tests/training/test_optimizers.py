import jax
import numpy as np
import optax
import pytest

from paligax.training.optimizers import Adafactor, AdamW
from paligax.training.schedules import Constant

AXES = {"w": ("layers", "embed", "mlp"), "b": ("layers", "mlp")}
PARAMS = {"w": np.ones((2, 16, 24), np.float32), "b": np.ones((2, 24), np.float32)}


@jax.jit(static_argnums=0)
def first_updates(transformation, grads):
    return transformation.update(grads, transformation.init(PARAMS), PARAMS)[0]


@pytest.mark.parametrize(
    "optimizer",
    [
        Adafactor(Constant(1.0), min_size_to_factor=16),
        Adafactor(Constant(1.0), min_size_to_factor=16, momentum=0.9),
        AdamW(Constant(1.0)),
    ],
    ids=["adafactor", "with momentum", "adamw"],
)
def test_state_axes_are_those_of_the_state(optimizer):
    state = jax.eval_shape(optimizer.transformation(AXES).init, PARAMS)
    axes = optimizer.state_axes(AXES, PARAMS)
    named = jax.tree.map(
        lambda names, leaf: len(names) == leaf.ndim, axes, state, is_leaf=lambda leaf: type(leaf) is tuple
    )
    assert all(jax.tree.leaves(named)) and len(jax.tree.leaves(named)) == len(jax.tree.leaves(state))


def test_adafactors_arguments_arrive():
    optimizer = Adafactor(Constant(1.0), multiply_by_parameter_scale=False, clipping_threshold=0.5)
    updates = first_updates(optimizer.transformation(AXES), PARAMS)
    np.testing.assert_allclose(updates["b"], 0.5, rtol=1e-5)


def test_adamw_is_optaxs():
    grads = jax.tree.map(lambda p: p * 0.3, PARAMS)
    ours = AdamW(Constant(1.0), b2=0.95).transformation(AXES)
    theirs = optax.adam(1.0, b2=0.95)
    np.testing.assert_allclose(first_updates(ours, grads)["w"], -first_updates(theirs, grads)["w"], rtol=1e-6)
