"""Our modules with their weights compute what transformers computes: on committed models, and on fresh ones with torch.

What is compared was computed by transformers itself, see references.py.
"""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paligax
from paligax.interop import native
from paligax.interop.foreign import open_foreign
from paligax.interop.weight_files import Tensors
from tests.interop import references

HAVE_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
FRESH = {
    "mt5": dict(seed=1, vocab_size=41, d_model=18, d_kv=8, d_ff=22, num_layers=1, num_decoder_layers=4, num_heads=5,
                feed_forward_proj="gated-silu", layer_norm_epsilon=1e-2),
    "mt5_tied": dict(seed=2, num_heads=1, d_kv=4),
    "umt5": dict(seed=3, num_layers=2, num_decoder_layers=3),
    "t5": dict(seed=4, tie_word_embeddings=True),
    "siglip_vision": dict(seed=5, hidden_size=18, num_attention_heads=3, hidden_act="gelu", layer_norm_eps=1e-2,
                          image_size=15, patch_size=5, vision_use_head=False),
    "siglip": dict(seed=6, hidden_act="quick_gelu", num_hidden_layers=1),
    "vit": dict(seed=7, hidden_act="gelu_new", patch_size=3),
}  # fmt: skip
TOLERANCE = 1e-4


@pytest.fixture(params=["committed", "fresh"])
def reference(request, tmp_path):
    """name → (the loaded model, what transformers computed)."""

    def find(name):
        directory = references.HERE / name
        if request.param == "fresh":
            if not HAVE_TORCH:
                pytest.skip("torch and transformers are not installed (pip install -e .[parity])")
            directory = tmp_path / name
            references.MODELS[name](directory, **FRESH[name])
        with np.load(directory / references.EXPECTED) as expected:
            return paligax.load(directory), dict(expected), directory

    return find


def apply(loaded, *arguments, method=None):
    """Compiled: run operation by operation, most of the time would go to compiling each."""
    return jax.jit(lambda params: loaded.module.apply({"params": params}, *arguments, method=method))(loaded.params)


def close(got, expected, tolerance=TOLERANCE):
    """Within the tolerance of the largest number expected, none of which is trivial."""
    scale = np.abs(expected).max()
    assert scale > 1e-3
    np.testing.assert_allclose(np.asarray(got), expected, rtol=0, atol=tolerance * max(scale, 1.0))


@pytest.mark.parametrize("name", ["mt5", "mt5_tied", "umt5", "t5"])
def test_mt5_states_logits_and_losses(reference, name):
    loaded, expected, _ = reference(name)
    inputs, targets = (jnp.asarray(expected[key], jnp.int32) for key in ("inputs", "targets"))
    states, mask = apply(loaded, inputs, method="encode")
    there = np.asarray(mask)
    close(np.asarray(states)[there], expected["states"][there])
    logits = apply(loaded, inputs, targets)
    assert logits.dtype == jnp.float32
    close(logits, expected["logits"])
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[..., 0] * (targets > 0)
    close(losses, expected["losses"])


@pytest.mark.parametrize("name", ["mt5", "mt5_tied", "umt5", "t5"])
def test_mt5_gradients(reference, name):
    loaded, expected, directory = reference(name)
    module = loaded.module
    inputs, targets = (jnp.asarray(expected[key], jnp.int32) for key in ("inputs", "targets"))

    def loss(params):
        logprobs = jax.nn.log_softmax(module.apply({"params": params}, inputs, targets))
        found = jnp.take_along_axis(logprobs, targets[..., None], -1)[..., 0]
        return -(found * (targets > 0)).sum() / (targets > 0).sum()

    ours = dict(native.flatten(jax.jit(jax.grad(loss))(loaded.params)))
    opened = open_foreign(directory)
    seen = {}
    for leaf, layout in opened._layouts.items():
        theirs = {n: np.zeros(layout.foreign_shape, np.float32) for n in layout.names}
        layout.write(np.asarray(ours[leaf]), theirs)
        for n, gradient in theirs.items():
            seen[n] = seen.get(n, 0) + gradient  # where embedding and head are one, both gradients add up
    assert {f"gradient/{n}" for n in seen} == {n for n in expected if n.startswith("gradient/")}
    for n, gradient in seen.items():
        close(gradient, expected[f"gradient/{n}"])


@pytest.mark.parametrize("name", ["siglip_vision", "vit"])
def test_image_towers(reference, name):
    loaded, expected, _ = reference(name)
    close(apply(loaded, jnp.asarray(expected["image"])), expected["tokens"])


def test_siglips_two_towers(reference):
    loaded, expected, _ = reference("siglip")
    image, text = jnp.asarray(expected["image"]), jnp.asarray(expected["text"], jnp.int32)
    close(apply(loaded, image, method="encode_image"), expected["image_embeddings"])
    close(apply(loaded, text, method="encode_text"), expected["text_embeddings"])
    close(apply(loaded, image, text), expected["logits"])


def test_bytes_are_scaled_to_the_range_that_floats_are_given_in():
    loaded = paligax.load(references.HERE / "siglip_vision")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 21, 21, 3), np.uint8)
    by_hand = jnp.asarray(pixels / 127.5 - 1, jnp.float32)
    got, want = (apply(loaded, x) for x in (jnp.asarray(pixels), by_hand))
    np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize("name", ["mt5", "umt5"])
def test_the_decoders_cache_gives_teacher_forcings_logits(reference, name):
    loaded, expected, _ = reference(name)
    module, variables = loaded.module, {"params": loaded.params}
    inputs, targets = (jnp.asarray(expected[key], jnp.int32) for key in ("inputs", "targets"))
    states, mask = apply(loaded, inputs, method="encode")
    cache = apply(loaded, states, mask, targets.shape[1], method="start_decoding")
    step = jax.jit(lambda last, cache: module.apply(variables, last, cache, method="decode_step"))
    last, steps = jnp.zeros(len(targets), jnp.int32), []
    for token in targets.T:
        logits, cache = step(last, cache)
        steps.append(logits)
        last = token
    whole = apply(loaded, inputs, targets)
    np.testing.assert_allclose(jnp.stack(steps, 1), whole, atol=1e-5 * float(jnp.abs(whole).max()))


@pytest.mark.skipif(not HAVE_TORCH, reason="torch and transformers are not installed (pip install -e .[parity])")
@pytest.mark.parametrize("shards", [False, True])
def test_torchs_own_files_hold_the_same(tmp_path, shards):
    """A .bin, whole or sharded, in float32 and bfloat16; its pickle is never run."""
    import json

    import torch

    source = references.HERE / "mt5"
    arrays = {name: torch.tensor(np.array(array)) for name, array in Tensors(source / "model.safetensors").items()}
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    names = sorted(arrays)
    if shards:
        halves = {"pytorch_model-00001-of-00002.bin": names[:20], "pytorch_model-00002-of-00002.bin": names[20:]}
        index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        for file, part in halves.items():
            torch.save({name: arrays[name] for name in part}, tmp_path / file)
    else:
        torch.save(arrays, tmp_path / "pytorch_model.bin")
    got, want = (dict(native.flatten(paligax.load(path).params)) for path in (tmp_path, source))
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_array_equal(got[name], want[name], err_msg=name)
    if not shards:
        torch.save({name: array.bfloat16() for name, array in arrays.items()}, tmp_path / "pytorch_model.bin")
        assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(paligax.load(tmp_path).params))


@pytest.mark.skipif(not HAVE_TORCH, reason="torch and transformers are not installed (pip install -e .[parity])")
def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    import os
    import pickle

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    (tmp_path / "config.json").write_text((references.HERE / "mt5" / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({"shared.weight": Harmful()}, protocol=2))
    with pytest.raises(ValueError, match="torch refuses"):
        paligax.load(tmp_path)
    assert not (tmp_path / "harm").exists()
