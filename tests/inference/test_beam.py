import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paligax.inference import beam, decoding

T = 7
RULES = dict(max_length=T, length_penalty=0.6, early_stopping="never", form="t5x")


def search(module, params, batch, num_beams, active=None, **rules):
    active = np.ones(len(batch[1]), bool) if active is None else active
    found = beam.beam_program(module, params, tuple(batch), active, num_beams=num_beams, **(RULES | rules))
    return tuple(map(np.asarray, found))


def teacher_forced(module, params, batch, num_beams):
    """(row, int32[K, T] prefixes) → their next tokens' log probabilities float32[K, T, V], without a cache."""
    states, mask = jax.jit(lambda: module.apply({"params": params}, *batch, method="encode"))()

    @jax.jit
    def log_probs(row, prefixes):
        several = [jnp.repeat(x[row][None], num_beams, axis=0) for x in (states, mask)]
        return jax.nn.log_softmax(module.apply({"params": params}, prefixes, *several, method="decode"))

    return log_probs


def by_hand(log_probs, row, num_beams, alpha):
    """Beam search over plain lists, which never stops early: [(score, tokens)], best first."""
    alive, finished = [(0.0, ())], []
    for n in range(T):
        prefixes = np.zeros((num_beams, T), np.int32)
        for i, (_, tokens) in enumerate(alive):
            prefixes[i, :n] = tokens
        following = np.asarray(log_probs(row, prefixes))[:, n]
        longer = [
            (score + following[i, token], (*tokens, token))
            for i, (score, tokens) in enumerate(alive)
            for token in range(following.shape[1])
        ]
        longer = sorted(longer, reverse=True)[: 2 * num_beams]
        penalty = ((5 + n + 1) / 6) ** alpha
        finished += [(score / penalty, tokens) for score, tokens in longer if tokens[-1] == 1]
        finished = sorted(finished, reverse=True)[:num_beams]
        alive = [(score, tokens) for score, tokens in longer if tokens[-1] != 1][:num_beams]
    return finished or [(score / penalty, tokens) for score, tokens in alive]


@pytest.mark.slow
@pytest.mark.parametrize("num_beams, alpha", [(3, 0.6), (5, 2.0)])
def test_equals_a_search_by_hand_without_cache(module, params, batch, num_beams, alpha):
    tokens, scores = search(module, params, batch, num_beams, length_penalty=alpha)
    assert tokens.shape == (6, num_beams, T) and tokens.dtype == np.int32
    log_probs, ended = teacher_forced(module, params, batch, num_beams), 0
    for i in range(len(tokens)):
        want = by_hand(log_probs, i, num_beams, alpha)
        for j, (score, answer) in enumerate(want):
            assert tuple(tokens[i, j][: len(answer)]) == answer and not tokens[i, j][len(answer) :].any()
            np.testing.assert_allclose(scores[i, j], score, atol=1e-4)
            ended += answer[-1] == 1
        assert not tokens[i, len(want) :].any() and (scores[i, len(want) :] == -1e9).all()
    assert ended >= 6, "answers must end"


@pytest.mark.slow
def test_one_beam_that_stops_early_is_greedy_decoding(module, params, batch):
    tokens, _ = search(module, params, batch, 1, early_stopping=True, form="transformers", length_penalty=0.0)
    greedy = np.asarray(decoding.greedy(module, params, *batch, max_length=T))
    np.testing.assert_array_equal(tokens[:, 0], greedy)


def test_scores_are_the_penalised_log_probabilities_of_the_answers(module, params, batch):
    from paligax.inference import likelihood

    for form, divisor in (("t5x", lambda n: ((5 + n) / 6) ** 0.6), ("transformers", lambda n: n**0.6)):
        tokens, scores = search(module, params, batch, 3, form=form)
        best = tokens[:, 0]
        n = (best != 0).sum(1)
        total = np.asarray(likelihood.of_targets(module, params, tuple(batch), best).total)
        np.testing.assert_allclose(scores[:, 0], total / divisor(n), atol=1e-4)
        assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("form, early_stopping", [("t5x", "never"), ("transformers", False), ("transformers", True)])
def test_rows_do_not_depend_on_each_other(module, params, batch, form, early_stopping):
    rules = dict(form=form, early_stopping=early_stopping)
    tokens, scores = search(module, params, batch, 3, **rules)
    backwards = search(module, params, [array[::-1] for array in batch], 3, **rules)
    np.testing.assert_array_equal(backwards[0][::-1], tokens)
    for i in (0, 3):
        alone = search(module, params, [array[i : i + 1] for array in batch], 3, **rules)
        np.testing.assert_array_equal(alone[0][0], tokens[i])
        np.testing.assert_allclose(alone[1][0], scores[i], atol=1e-4)


def test_inactive_rows_give_zeros_and_do_not_disturb_the_others(module, params, batch):
    active = np.array([True, False, True, True, False, True])
    tokens, scores = search(module, params, batch, 3, active)
    everyone, _ = search(module, params, batch, 3)
    assert not tokens[~active].any() and (scores[~active] == -1e9).all()
    np.testing.assert_array_equal(tokens[active], everyone[active])


def test_a_search_ends_when_no_row_can_gain(module, params, batch):
    """Long before the last place."""

    def steps(**rules):
        seen = []

        class Counting:
            def apply(self, variables, *args, method):
                result = module.apply(variables, *args, method=method)
                if method == "decode_step":
                    jax.debug.callback(lambda: seen.append(1))
                return result

        def run():
            states, mask = module.apply({"params": params}, *batch, method="encode")
            options = RULES | dict(max_length=40, num_beams=2, length_penalty=0.0) | rules
            return beam.beam_loop(Counting(), params, states, mask, np.arange(6) < 3, **options)

        jax.jit(run)()
        jax.effects_barrier()
        return len(seen)

    early, sure = steps(early_stopping=True), steps(early_stopping="never")
    assert 0 < early <= sure < 40


def test_penalties_of_both_forms():
    np.testing.assert_allclose(beam.penalties("t5x", 0.6, 3), [1, 1, (7 / 6) ** 0.6, (8 / 6) ** 0.6], rtol=1e-6)
    np.testing.assert_allclose(beam.penalties("transformers", -2.0, 3), [1, 1, 1 / 4, 1 / 9], rtol=1e-6)
