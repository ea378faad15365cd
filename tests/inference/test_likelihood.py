import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paligax.batch import TextBatch
from paligax.inference import decoding, likelihood
from paligax.training import objectives


@pytest.fixture
def targets():
    """int32[6, 5] of different lengths, the last without EOS."""
    rng = np.random.default_rng(3)
    targets = rng.integers(3, 250, (6, 5), np.int32)
    for row, length in enumerate((5, 3, 1, 2, 4)):
        targets[row, length - 1 :] = 0
        targets[row, length - 1] = 1
    return targets


@pytest.mark.slow
def test_is_minus_the_teacher_forced_loss(module, params, batch, targets):
    image, inputs, mask = batch
    found = likelihood.of_targets(module, params, tuple(batch), targets)
    assert found.total.shape == (6,) and found.tokens.shape == (6, 5) and found.tokens.dtype == jnp.float32
    weights = (targets > 0).astype(np.float32)
    rows = TextBatch(image, mask, inputs, targets, weights, np.arange(6, dtype=np.int32))
    _, _, per_task = jax.jit(lambda: objectives.TextLoss().sums(module, params, rows, {}, 6))()
    np.testing.assert_allclose(found.total, -per_task["loss"], rtol=1e-5)
    logits = jax.jit(module.apply)({"params": params}, image, inputs, targets, mask)
    logprobs = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(found.tokens, np.where(targets > 0, logprobs, 0), atol=1e-4)
    np.testing.assert_allclose(found.total, np.asarray(found.tokens).sum(1), rtol=1e-6)


def test_cached_steps_give_the_same(module, params, batch, targets):
    states, mask = jax.jit(lambda *a: module.apply({"params": params}, *a, method="encode"))(*batch)
    cache = jax.jit(lambda: decoding.start_several(module, params, states, mask, 5, 2))()
    step = jax.jit(lambda last, cache: decoding.step_several(module, params, last, cache))
    several = np.stack([targets, targets[::-1]], axis=1)  # two hypotheses a row
    last, found = jnp.zeros((6, 2), jnp.int32), []
    for t in range(5):
        logits, cache = step(last, cache)
        last = several[:, :, t]
        found.append(jnp.take_along_axis(jax.nn.log_softmax(logits), last[..., None], -1)[..., 0])
    for j in range(2):
        want = likelihood.of_targets(module, params, tuple(batch), several[:, j]).tokens
        got = np.where(several[:, j] > 0, np.stack(found, axis=-1)[:, j], 0)
        np.testing.assert_allclose(got, want, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 2, 16])
def test_candidates_are_scored_for_every_row(module, params, batch, targets, at_once):
    candidates = targets[:5]
    found = likelihood.of_candidates(module, params, tuple(batch), candidates, at_once=at_once)
    assert found.total.shape == (6, 5) and found.tokens.shape == (6, 5, 5)
    for c, candidate in enumerate(candidates):
        want = likelihood.of_targets(module, params, tuple(batch), np.tile(candidate, (6, 1)))
        np.testing.assert_allclose(found.total[:, c], want.total, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(found.tokens[:, c], want.tokens, rtol=1e-5, atol=1e-4)


def test_the_encoder_runs_once_for_all_candidates(module, params, batch, targets):
    encoded, decoded = [], []

    class Counting:
        def apply(self, variables, *args, method):
            seen = encoded if method == "encode" else decoded
            jax.debug.callback(lambda: seen.append(1))
            return module.apply(variables, *args, method=method)

    counting = Counting()
    jax.block_until_ready(likelihood.of_candidates(counting, params, tuple(batch), targets[:5], at_once=2).total)
    jax.effects_barrier()
    assert len(encoded) == 1 and len(decoded) == 3


def test_greedy_answers_are_more_probable_than_others(module, params, batch, targets):
    """Zero-shot classification: the row's own answer is told from the others' where it was decoded greedily."""
    answers = np.asarray(decoding.greedy(module, params, *batch, max_length=1))
    found = likelihood.of_candidates(module, params, tuple(batch), np.unique(answers, axis=0))
    best = np.unique(answers, axis=0)[np.asarray(found.total).argmax(1)]
    np.testing.assert_array_equal(best, answers)


def test_rows_do_not_depend_on_each_other(module, params, batch, targets):
    whole = likelihood.of_targets(module, params, tuple(batch), targets)
    for i in (0, 3):
        alone = likelihood.of_targets(module, params, tuple(a[i : i + 1] for a in batch), targets[i : i + 1])
        np.testing.assert_allclose(alone.tokens[0], whole.tokens[i], atol=1e-4)
