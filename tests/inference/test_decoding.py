import jax
import numpy as np

from paligax.inference import decoding

T = 12


def teacher_forced(module, params, image, inputs, mask, length):
    """Greedy decoding by running the whole decoder anew for every token."""
    apply = jax.jit(lambda targets: module.apply({"params": params}, image, inputs, targets, mask))
    tokens = np.zeros((len(inputs), length), np.int32)
    ended = np.zeros(len(inputs), bool)
    for t in range(length):
        choice = np.asarray(apply(tokens))[:, t].argmax(-1)
        tokens[:, t] = np.where(ended, 0, choice)
        ended |= choice == 1
    return tokens


def test_equals_the_argmax_of_teacher_forced_logits_step_by_step(module, params, batch):
    image, inputs, mask = batch
    tokens = np.asarray(decoding.greedy(module, params, image, inputs, mask, max_length=T))
    assert tokens.shape == (6, T) and tokens.dtype == np.int32
    np.testing.assert_array_equal(tokens, teacher_forced(module, params, image, inputs, mask, T))
    lengths = (tokens != 0).sum(1)
    assert len(set(lengths)) > 1 and lengths.min() < T, "rows must end at different times"
    for row, length in zip(tokens, lengths, strict=True):
        assert length == T or row[length - 1] == 1  # ends with EOS, then only padding


def test_images_matter_where_there_are_any(module, params, batch):
    image, inputs, mask = batch
    before = np.asarray(decoding.greedy(module, params, image, inputs, mask, max_length=T))
    after = np.asarray(decoding.greedy(module, params, 255 - image, inputs, mask, max_length=T))
    changed = (before != after).any(1)
    assert changed.sum() >= 3 and not changed[3]


def test_inactive_rows_give_zeros_and_do_not_disturb_the_others(module, params, batch):
    image, inputs, mask = batch
    active = np.array([True, False, True, True, False, True])
    tokens = np.asarray(decoding.greedy(module, params, image, inputs, mask, max_length=T, active=active))
    everyone = np.asarray(decoding.greedy(module, params, image, inputs, mask, max_length=T))
    assert not tokens[~active].any()
    np.testing.assert_array_equal(tokens[active], everyone[active])


def test_stops_when_all_rows_have_ended(module, params, batch):
    """The number of decoder steps is the longest answer's, not T."""
    steps = []

    class Counting:
        def apply(self, variables, *args, method):
            result = module.apply(variables, *args, method=method)
            if method == "decode_step":
                jax.debug.callback(lambda: steps.append(1))
            return result

    image, inputs, mask = batch
    states, states_mask = jax.jit(lambda: module.apply({"params": params}, image, inputs, mask, method="encode"))()
    tokens = np.asarray(decoding.greedy(module, params, image, inputs, mask, max_length=T))
    lengths = (tokens != 0).sum(1)
    active = lengths <= sorted(lengths)[2]  # leave out the rows with long answers
    jax.jit(lambda: decoding.greedy_loop(Counting(), params, states, states_mask, active, T))()
    jax.effects_barrier()
    assert len(steps) == lengths[active].max() < T


def test_compiled_once_for_equal_models_and_shapes(module, params, batch):
    image, inputs, mask = batch
    decoding.greedy(module, params, image, inputs, mask, max_length=T)
    before = decoding.greedy_program._cache_size()
    decoding.greedy(module.copy(), params, image[::-1], inputs[::-1], mask[::-1], max_length=T)
    assert decoding.greedy_program._cache_size() == before
