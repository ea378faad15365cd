import dataclasses

import jax
import numpy as np
import pytest

from paligax.training import optimizers, partitioning, schedules, step, trees
from paligax.training.treatments import OTHERWISE, Frozen, Trained
from tests.training import toy

TABLE = (
    ("vision/.*", Frozen()),
    ("projection/.*", Trained(learning_rate_scale=0.5)),
    ("language/logits/kernel", Trained(weight_decay=2.0)),
    (OTHERWISE, Trained()),
)


@pytest.fixture(scope="module")
def stepped():
    """(program, parameters before and after, metrics) of one AdamW step at learning rate 1e-3."""
    optimizer = optimizers.AdamW(schedules.Constant(1e-3), max_gradient_norm=0.1)
    program = toy.program(toy.trainer(treatments=TABLE, optimizer=optimizer))
    state = toy.random_state(program)
    before = trees.flatten(jax.tree.map(np.asarray, state.params))
    batch = partitioning.to_global(toy.text_batch(0, 8), partitioning.batch_sharding(program.mesh), 8)
    state, metrics = toy.fast(step.lower_step(program))(state, batch)
    assert int(state.step) == 1 and jax.tree.map(lambda x: x.sharding, state) == program.shardings
    after = trees.flatten(jax.tree.map(np.asarray, state.params))
    return program, before, after, jax.tree.map(np.asarray, metrics), state


def test_frozen_parameters_stay_bit_for_bit(stepped):
    _, before, after, _, _ = stepped
    for name in before:
        assert np.array_equal(before[name], after[name]) == name.startswith("vision/"), name


def test_learning_rate_scale_and_weight_decay(stepped):
    _, before, after, _, _ = stepped
    # Adam's first update is the gradient's sign, wherever the gradient is not tiny.
    for name, rate in (("projection/kernel", 0.5e-3), ("language/decoder/mlp/wo/kernel", 1e-3)):
        assert np.median(np.abs(after[name] - before[name])) == pytest.approx(rate, rel=1e-2)
    name = "language/logits/kernel"
    decayed = before[name] * (1 - 1e-3 * 2.0)
    assert np.median(np.abs(after[name] - decayed)) == pytest.approx(1e-3, rel=1e-2)


def test_gradients_are_clipped_before_the_optimizer(stepped):
    _, _, _, metrics, state = stepped
    assert metrics["gradient_norm"] > 0.1
    squares = sum(np.square(np.asarray(m, np.float64) / 0.1).sum() for m in jax.tree.leaves(state.optimizer.mu))
    assert np.sqrt(squares) == pytest.approx(0.1, rel=1e-4)


def test_metrics_are_those_of_the_batch(stepped):
    _, _, _, metrics, _ = stepped
    batch = toy.text_batch(0, 8)
    assert metrics["weight"] == batch.weights.sum() == metrics["task_weight"].sum()
    assert metrics["loss"] == pytest.approx(metrics["task_loss"].sum() / metrics["weight"], rel=1e-6)
    assert metrics["learning_rate"] == np.float32(1e-3)
    assert all(value.dtype == np.float32 for value in metrics.values())


def test_a_batch_that_is_unusable_from_end_to_end_changes_nothing_but_the_moments():
    program = toy.program(toy.job("labels"))
    state = toy.random_state(program)
    batch = toy.label_batch(0, 8)
    batch.weights[:] = 0
    compute = jax.jit(lambda state, batch: step.gradients(program, state, batch))
    grads, metrics = toy.fast(compute.lower(state, batch))(state, batch)
    assert metrics["loss"] == 0 and all(not np.asarray(grad).any() for grad in jax.tree.leaves(grads))


def test_norms_of_each_tower_that_is_trained(stepped):
    _, before, after, metrics, _ = stepped
    towers = {"language", "projection"}
    assert {name for name in metrics if "/" in name} == {
        f"{kind}_norm/{tower}" for kind in ("gradient", "update") for tower in towers
    }
    squares = sum(float(metrics[f"gradient_norm/{tower}"]) ** 2 for tower in towers)
    assert np.sqrt(squares) == pytest.approx(float(metrics["gradient_norm"]), rel=1e-6)
    for tower in towers:
        changed = sum(
            np.square(after[name].astype(np.float64) - before[name]).sum()
            for name in before
            if name.startswith(f"{tower}/")
        )
        assert float(metrics[f"update_norm/{tower}"]) == pytest.approx(np.sqrt(changed), rel=1e-3)


@pytest.mark.slow
def test_an_update_that_is_not_finite_can_be_left_out():
    program = dataclasses.replace(toy.program(toy.job("labels")), skip_non_finite=True)
    compiled = toy.fast(step.lower_step(program))
    sharding = partitioning.batch_sharding(program.mesh)
    good = toy.label_batch(0, 8)
    bad = dataclasses.replace(good, weights=np.full_like(good.weights, np.inf))
    state, _ = compiled(toy.random_state(program), partitioning.to_global(good, sharding, 8))
    before = jax.tree.map(np.array, (state.params, state.optimizer))
    state, metrics = compiled(state, partitioning.to_global(bad, sharding, 8))
    assert not np.isfinite(metrics["gradient_norm"]) and int(state.step) == 2
    jax.tree.map(np.testing.assert_array_equal, (state.params, state.optimizer), before)
    state, metrics = compiled(state, partitioning.to_global(good, sharding, 8))
    assert np.isfinite(metrics["loss"]) and int(state.step) == 3
    assert int(state.optimizer.count) == 2
