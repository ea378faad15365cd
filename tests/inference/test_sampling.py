import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from paligax.inference import decoding, likelihood, sampling

T = 6
ALL = dict(temperature=1.0, top_k=0, top_p=1.0)


def draw(module, params, batch, seed=0, num_samples=3, active=None, rows=None, max_length=T, **rules):
    active = np.ones(len(batch[1]), bool) if active is None else active
    found = sampling.sample_program(
        module,
        params,
        tuple(batch),
        active,
        rows,
        np.uint32(seed),
        **(ALL | rules | dict(max_length=max_length, num_samples=num_samples)),
    )
    return tuple(map(np.asarray, found))


def kept(probabilities, **rules):
    sharpened = sampling.sharpen(jnp.log(jnp.asarray(probabilities, jnp.float32)), **(ALL | rules))
    return [set(np.flatnonzero(row).tolist()) for row in np.atleast_2d(np.isfinite(sharpened))]


def test_the_most_probable_tokens_are_kept():
    row = [0.1, 0.4, 0.05, 0.25, 0.2]
    assert kept(row, top_k=1) == [{1}] and kept(row, top_k=3) == [{1, 3, 4}] and kept(row, top_k=9) == [set(range(5))]
    assert kept(row, top_p=0.39) == [{1}] and kept(row, top_p=0.41) == [{1, 3}]
    assert kept(row, top_p=0.64) == [{1, 3}] and kept(row, top_p=0.66) == [{1, 3, 4}]
    assert kept(row, top_p=1e-6) == [{1}] and kept(row, top_p=0.96) == [{0, 1, 2, 3, 4}]
    # First the k most probable, then p of what these hold: 0.4 of 0.65 is 0.62.
    assert kept(row, top_k=2, top_p=0.6) == [{1}] and kept(row, top_k=2, top_p=0.63) == [{1, 3}]
    # The temperature comes before: at 0.5 the probabilities are squared, and the first two hold 0.81.
    assert kept(row, temperature=0.5, top_p=0.8) == [{1, 3}] and kept(row, temperature=0.5, top_p=0.82) == [{1, 3, 4}]


def test_equally_probable_tokens_are_kept_together():
    row = [0.25, 0.125, 0.25, 0.125, 0.25]
    assert kept(row, top_k=2) == [{0, 2, 4}] and kept(row, top_p=0.5) == [{0, 2, 4}]
    assert kept(row, top_p=0.8) == [set(range(5))]


@pytest.mark.parametrize("top_p", [0.03, 0.5, 0.9, 0.999])
def test_the_smallest_set_that_holds_p_of_many_tokens(top_p):
    logits = np.random.default_rng(0).normal(0, 4, (7, 3001)).astype(np.float32)
    got = np.isfinite(sampling.sharpen(logits, 1.0, 0, top_p))
    probabilities = np.exp(logits.astype(np.float64))
    probabilities /= probabilities.sum(1, keepdims=True)
    order = np.argsort(-logits, axis=1)
    before = np.cumsum(np.take_along_axis(probabilities, order, 1), 1)
    before = np.concatenate([np.zeros((7, 1)), before[:, :-1]], 1)
    want = np.zeros_like(got)
    np.put_along_axis(want, order, before < top_p, 1)
    np.testing.assert_array_equal(got, want)


def test_what_is_kept_keeps_its_proportions():
    sharpened = sampling.sharpen(jnp.log(jnp.array([0.1, 0.4, 0.05, 0.25, 0.2])), 1.0, 3, 1.0)
    np.testing.assert_allclose(jax.nn.softmax(sharpened), np.array([0, 0.4, 0, 0.25, 0.2]) / 0.85, atol=1e-6)


def first_token(module, params, few, row, temperature):
    """float[V]: the model's own distribution of a row's first token."""
    image, inputs, mask = few
    targets = np.zeros((len(inputs), 1), np.int32)
    logits = jax.jit(lambda: module.apply({"params": params}, image, inputs, targets, mask))()
    return np.asarray(jax.nn.softmax(logits[row, 0] / temperature), np.float64)


@pytest.mark.slow
@pytest.mark.parametrize("temperature, top_k", [(1.0, 0), (2.5, 7)])
def test_tokens_are_drawn_as_often_as_they_are_probable(module, params, batch, temperature, top_k):
    draws, few = 2500, [array[[0, 3]] for array in batch]
    rules = dict(max_length=1, temperature=temperature, top_k=top_k, seed=1)
    tokens, _ = draw(module, params, few, num_samples=draws, **rules)
    for row in (0, 1):
        expected = first_token(module, params, few, row, temperature)
        if top_k:
            expected = np.where(expected >= np.sort(expected)[-top_k], expected, 0.0)
        expected *= draws / expected.sum()
        counts = np.bincount(tokens[row, :, 0], minlength=len(expected))
        assert not counts[expected == 0].any()
        common = expected >= 5
        observed = np.append(counts[common], counts[~common].sum())
        wanted = np.append(expected[common], expected[~common].sum())
        observed, wanted = observed[wanted > 0], wanted[wanted > 0]
        assert len(wanted) > 3
        assert stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-3


@pytest.mark.slow
def test_later_tokens_follow_the_ones_before_them(module, params, batch):
    """Of the draws that begin alike, the second tokens have the distribution that teacher forcing gives."""
    draws, few = 2500, [array[:1] for array in batch]
    tokens, _ = draw(module, params, few, num_samples=draws, max_length=2)
    begins = tokens[0, :, 0]
    common = np.bincount(begins[begins != 1]).argmax()
    second = tokens[0, begins == common, 1]
    image, inputs, mask = few
    targets = np.array([[common, 0]], np.int32)
    logits = jax.jit(lambda: module.apply({"params": params}, image, inputs, targets, mask))()[0, 1]
    expected = np.asarray(jax.nn.softmax(logits), np.float64) * len(second)
    counts, often = np.bincount(second, minlength=len(expected)), expected >= 5
    observed = np.append(counts[often], counts[~often].sum())
    wanted = np.append(expected[often], expected[~often].sum())
    assert len(second) > 200 and often.sum() > 3
    assert stats.chisquare(observed, wanted * observed.sum() / wanted.sum()).pvalue > 1e-3


@pytest.mark.slow
def test_answers_are_reproduced_from_the_seed_in_any_batch(module, params, batch):
    tokens, scores = draw(module, params, batch)
    again, _ = draw(module, params, batch)
    np.testing.assert_array_equal(again, tokens)
    backwards, _ = draw(module, params, [array[::-1] for array in batch])
    np.testing.assert_array_equal(backwards[::-1], tokens)
    image, inputs, mask = batch
    longer = [image, np.pad(inputs, ((0, 0), (0, 9))), mask]
    np.testing.assert_array_equal(draw(module, params, longer)[0], tokens)
    for i in (1, 3):
        alone, score = draw(module, params, [array[i : i + 1] for array in batch])
        np.testing.assert_array_equal(alone[0], tokens[i])
        np.testing.assert_allclose(score[0], scores[i], atol=1e-4)
    fewer, _ = draw(module, params, batch, num_samples=2)
    np.testing.assert_array_equal(fewer, tokens[:, :2])


@pytest.mark.slow
def test_seeds_samples_and_rows_differ(module, params, batch):
    tokens, _ = draw(module, params, batch, temperature=3.0)
    other, _ = draw(module, params, batch, temperature=3.0, seed=1)
    assert (tokens != other).any(axis=(1, 2)).all()
    assert all(len({sample.tobytes() for sample in row}) == 3 for row in tokens)
    same = [np.repeat(array[:1], 4, axis=0) for array in batch]
    alike, _ = draw(module, params, same, temperature=3.0)
    assert (alike == alike[:1]).all()
    numbered, _ = draw(module, params, same, temperature=3.0, rows=np.arange(4, dtype=np.uint32))
    assert len({row.tobytes() for row in numbered}) == 4


def test_row_numbers_see_pixels_and_ids_and_not_the_padding(batch):
    image, inputs, mask = batch
    numbers = np.asarray(sampling.row_numbers(tuple(batch)))
    assert numbers.dtype == np.uint32 and len(set(numbers.tolist())) == 6
    padded = np.asarray(sampling.row_numbers((image, np.pad(inputs, ((0, 0), (0, 5))), mask)))
    np.testing.assert_array_equal(padded, numbers)
    other = image.copy()
    other[2, 5, 6, 1] += 1
    changed = np.asarray(sampling.row_numbers((other, inputs, mask))) != numbers
    np.testing.assert_array_equal(changed, np.arange(6) == 2)
    swapped = inputs.copy()
    swapped[1, [3, 4]] = swapped[1, [4, 3]]
    changed = np.asarray(sampling.row_numbers((image, swapped, mask))) != numbers
    np.testing.assert_array_equal(changed, np.arange(6) == 1)


@pytest.mark.slow
def test_scores_are_the_models_own_log_probabilities(module, params, batch):
    tokens, scores = draw(module, params, batch, temperature=0.8, top_k=20)
    for j in range(3):
        total = likelihood.of_targets(module, params, tuple(batch), tokens[:, j]).total
        np.testing.assert_allclose(scores[:, j], total, atol=1e-4)


def test_the_most_probable_token_alone_is_greedy_decoding(module, params, batch):
    tokens, _ = draw(module, params, batch, top_k=1)
    greedy = np.asarray(decoding.greedy(module, params, *batch, max_length=T))
    np.testing.assert_array_equal(tokens, np.repeat(greedy[:, None], 3, axis=1))


def test_any_seed_uses_the_same_program(module, params, batch):
    draw(module, params, batch)
    before = sampling.sample_program._cache_size()
    draw(module, params, batch, seed=2**32 - 1)
    assert sampling.sample_program._cache_size() == before
