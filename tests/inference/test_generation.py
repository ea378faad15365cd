import importlib.util

import jax
import numpy as np
import pytest

import paligax
from paligax.inference import beam, decoding, sampling
from paligax.inference.generation import Decoding, generate
from tests.inference import generated

HAVE_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
FRESH = dict(seed=1, vocab_size=41, d_model=18, d_kv=8, d_ff=22, num_layers=4, num_decoder_layers=3, num_heads=5)


@pytest.fixture(scope="module", params=["committed", "fresh"])
def reference(request, tmp_path_factory):
    """(the loaded mT5, what transformers answered)."""
    directory = generated.HERE / "mt5"
    if request.param == "fresh":
        if not HAVE_TORCH:
            pytest.skip("torch and transformers are not installed (pip install -e .[parity])")
        directory = tmp_path_factory.mktemp("mt5")
        generated.mt5(directory, **FRESH)
    with np.load(directory / generated.EXPECTED) as expected:
        return paligax.load(directory), dict(expected)


def as_transformers(case):
    options = generated.CASES[case]
    return Decoding(**options, beam_form="transformers", num_samples=options.get("num_beams", 1))


@pytest.mark.parametrize("case", generated.CASES)
def test_answers_are_those_of_transformers_token_for_token(reference, case):
    loaded, expected = reference
    inputs = expected["inputs"].astype(np.int32)
    options = as_transformers(case)
    tokens = generate(loaded.module, loaded.params, (inputs,), options, max_length=generated.MAX_LENGTH)
    np.testing.assert_array_equal(tokens, expected[f"tokens/{case}"])
    if options.num_beams > 1:
        how = dict(length_penalty=options.length_penalty, early_stopping=options.early_stopping, form="transformers")
        how |= dict(num_beams=options.num_beams, max_length=generated.MAX_LENGTH)
        _, scores = beam.beam_program(loaded.module, loaded.params, (inputs,), np.ones(6, bool), **how)
        np.testing.assert_allclose(scores, expected[f"scores/{case}"], rtol=1e-5, atol=1e-4)


def test_the_committed_cases_differ_and_their_rows_end_at_different_times():
    with np.load(generated.HERE / "mt5" / generated.EXPECTED) as expected:
        first = {case: expected[f"tokens/{case}"][:, 0] for case in generated.CASES}
    assert len({tokens.tobytes() for tokens in first.values()}) == 7
    assert min(len(np.unique((tokens != 0).sum(1))) for tokens in first.values()) >= 2
    assert sum(len(np.unique((tokens != 0).sum(1))) >= 4 for tokens in first.values()) >= 5


def test_the_defaults_are_greedy_decoding_by_the_same_program(module, params, batch):
    greedy = decoding.greedy(module, params, *batch, max_length=12)
    before = decoding.greedy_program._cache_size()
    tokens = generate(module, params, batch, Decoding(), max_length=12)
    assert tokens.shape == (6, 1, 12) and decoding.greedy_program._cache_size() == before
    np.testing.assert_array_equal(tokens[:, 0], greedy)
    np.testing.assert_array_equal(generate(module, params, batch, Decoding(max_length=5))[:, 0], greedy[:, :5])


@pytest.mark.slow
def test_options_reach_the_search_and_the_draws(module, params, batch):
    options = Decoding(num_beams=4, num_samples=2, length_penalty=0.1)
    tokens = generate(module, params, batch, options, max_length=6)
    rules = dict(length_penalty=0.1, early_stopping="never", form="t5x")
    want, _ = beam.beam_program(module, params, batch, np.ones(6, bool), max_length=6, num_beams=4, **rules)
    np.testing.assert_array_equal(tokens, want[:, :2])
    options = Decoding(temperature=0.7, top_k=5, top_p=0.9, num_samples=3, seed=4)
    tokens = generate(module, params, batch, options, max_length=6)
    rules = dict(temperature=0.7, top_k=5, top_p=0.9)
    active = np.ones(6, bool)
    want, _ = sampling.sample_program(
        module, params, batch, active, None, np.uint32(4), max_length=6, num_samples=3, **rules
    )
    np.testing.assert_array_equal(tokens, want)


@pytest.mark.parametrize("options", [dict(), dict(num_beams=3), dict(temperature=1.0)], ids=str)
def test_inactive_rows_give_zeros(module, params, batch, options):
    active = np.array([True, False, True, True, False, True])
    tokens = np.asarray(generate(module, params, batch, Decoding(**options), max_length=5, active=active))
    everyone = np.asarray(generate(module, params, batch, Decoding(**options), max_length=5))
    assert not tokens[~active].any()
    np.testing.assert_array_equal(tokens[active], everyone[active])


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(num_beams=0), r"Decoding.num_beams=0: expected at least 1\."),
        (dict(beam_form="hf"), r"Decoding.beam_form='hf': expected 't5x' or 'transformers'\."),
        (dict(early_stopping="always"), r"expected False, True or \"never\"\."),
        (dict(temperature=-1.0), "Decoding.temperature=-1.0"),
        (dict(temperature=1.0, top_p=0.0), "Decoding.top_p=0.0: expected above 0"),
        (dict(top_k=5), r"draws nothing at temperature 0: set temperature=1\.0\."),
        (dict(num_samples=2), "num_beams is 1"),
        (dict(num_beams=2, temperature=1.0), "beams are not drawn"),
        (dict(seed=-1), "Decoding.seed=-1"),
        (dict(max_length=0), "Decoding.max_length=0"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Decoding(**options)


def test_unknown_options_are_told_with_the_nearest():
    assert Decoding.of({"num_beams": 2}) == Decoding(num_beams=2)
    with pytest.raises(ValueError, match="no option 'beams'. Nearest: 'num_beams'"):
        Decoding.of({"beams": 4})


def test_a_length_must_be_given(module, params, batch):
    with pytest.raises(ValueError, match="set Decoding.max_length"):
        generate(module, params, batch, Decoding())


@pytest.mark.slow
@pytest.mark.skipif(jax.device_count() < 8, reason="needs eight devices")
@pytest.mark.parametrize("options", [dict(), dict(num_beams=3), dict(temperature=1.0, num_samples=2)], ids=str)
def test_a_mesh_gives_the_answers_of_one_device(options):
    from paligax.training import partitioning
    from paligax.training.partitioning import Partitioner
    from tests.training import toy

    program = toy.program(toy.job("text", partitioner=Partitioner(2, 2, 2)), devices=jax.devices())
    params = toy.random_state(program).params
    batch = toy.batch("text", 0)
    example = (batch.image, batch.inputs, batch.image_mask)
    rows = partitioning.to_global(example, partitioning.batch_sharding(program.mesh), len(batch.inputs))
    on_mesh = generate(program.module, params, rows, Decoding(**options), max_length=5)
    alone = generate(program.module, jax.tree.map(np.asarray, params), example, Decoding(**options), max_length=5)
    np.testing.assert_array_equal(on_mesh, alone)
