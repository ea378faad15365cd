import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from paligax.training.objectives import LabelLoss, TextLoss, token_losses
from tests.training import toy


class Fixed:
    """Stands for a module whose logits are given."""

    def __init__(self, logits):
        self.logits = logits

    def apply(self, variables, *args, rngs):
        return self.logits


LOGITS = np.random.default_rng(0).normal(size=(8, toy.TARGETS, toy.VOCABULARY)).astype(np.float32) * 3
TARGETS = np.random.default_rng(1).integers(0, toy.VOCABULARY, (8, toy.TARGETS))


def test_token_losses_are_optax_cross_entropy():
    expected = optax.softmax_cross_entropy_with_integer_labels(LOGITS, TARGETS)
    np.testing.assert_allclose(token_losses(LOGITS, TARGETS, 0.0, 0.0), expected, rtol=1e-5, atol=1e-6)


def test_z_loss_and_label_smoothing():
    one_hot = jax.nn.one_hot(TARGETS, toy.VOCABULARY) * 0.9 + 0.1 / toy.VOCABULARY
    log_z = jax.nn.logsumexp(LOGITS, axis=-1)
    expected = optax.softmax_cross_entropy(LOGITS, one_hot) + 1e-2 * log_z**2
    np.testing.assert_allclose(token_losses(LOGITS, TARGETS, 1e-2, 0.1), expected, rtol=1e-5)


def test_bfloat16_logits_are_summed_in_float32():
    assert token_losses(jnp.asarray(LOGITS, jnp.bfloat16), TARGETS, 0.0, 0.0).dtype == jnp.float32


def test_text_sums_keep_tasks_apart_and_leave_padding_out():
    batch = toy.text_batch(0, 8)
    loss, weight, tasks = TextLoss().sums(Fixed(LOGITS), {}, batch, {}, 3)
    losses = np.asarray(token_losses(LOGITS, batch.targets, 0.0, 0.0)) * batch.weights
    right = (LOGITS.argmax(-1) == batch.targets) * batch.weights
    for task in range(3):
        rows = batch.task == task
        np.testing.assert_allclose(tasks["loss"][task], losses[rows].sum(), rtol=1e-5)
        assert tasks["weight"][task] == batch.weights[rows].sum()
        assert tasks["correct"][task] == right[rows].sum()
    np.testing.assert_allclose(loss, losses.sum(), rtol=1e-5)
    assert weight == batch.weights.sum()


def test_a_mean_over_examples_weighs_long_and_short_targets_alike():
    batch = toy.text_batch(0, 8)
    loss, weight, tasks = TextLoss(mean_over="examples").sums(Fixed(LOGITS), {}, batch, {}, 3)
    losses = np.asarray(token_losses(LOGITS, batch.targets, 0.0, 0.0)) * batch.weights
    counts = batch.weights.sum(1)
    assert len(set(counts)) > 2
    np.testing.assert_allclose(loss, (losses.sum(1) / np.maximum(counts, 1)).sum(), rtol=1e-5)
    np.testing.assert_allclose(weight, (counts > 0).sum(), rtol=1e-6)
    by_token = TextLoss().sums(Fixed(LOGITS), {}, batch, {}, 3)[2]
    assert all((tasks[name] == by_token[name]).all() for name in by_token), "what is reported stays a mean over tokens"
    halved = dataclasses.replace(batch, weights=batch.weights * 0.5)
    half = TextLoss(mean_over="examples").sums(Fixed(LOGITS), {}, halved, {}, 3)[0]
    np.testing.assert_allclose(half, loss / 2, rtol=1e-5)
    with pytest.raises(ValueError, match="mean_over='sentences': expected one of tokens, examples"):
        TextLoss(mean_over="sentences")


def test_label_sums():
    batch = toy.label_batch(0, 8)
    logits = LOGITS[:, 0, : toy.CLASSES]
    loss, weight, tasks = LabelLoss().sums(Fixed(logits), {}, batch, {}, 1)
    expected = optax.sigmoid_binary_cross_entropy(logits, batch.labels).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert weight == 8 and tasks["weight"][0] == 8
    assert tasks["correct"][0] == ((logits > 0) == (batch.labels > 0)).all(-1).sum()


@pytest.mark.parametrize("kind", ["text", "labels"])
def test_example_args_are_the_models(kind):
    job = toy.job(kind)
    args = job.objective.example_args(toy.batch(kind, 0))
    jax.eval_shape(lambda *args: job.model.init(jax.random.key(0), *args), *args)
