"""big_vision's layouts of one and the same tower, old and new, give the same parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paligax
from paligax import models
from paligax.interop import big_vision, native
from paligax.interop.foreign import open_foreign
from paligax.interop.layouts import Layout

VIT = models.ViT(width=12, depth=3, mlp_dim=20, num_heads=3, patch_size=5)
WITH_TOKEN = models.ViT(width=12, depth=3, mlp_dim=20, num_heads=3, patch_size=5, class_token=True)


def tower(module=VIT):
    rng = np.random.default_rng(0)
    shapes = native.flatten(models.abstract_params(module, {"image": 15}))
    return {name: rng.normal(size=leaf.shape).astype(np.float32) for name, leaf in shapes}


def laid_out(leaves, rules):
    tensors = {}
    for rule in rules:
        layout = Layout(rule, leaves[rule.ours].shape)
        for name in layout.names:
            tensors.setdefault(name, np.zeros(layout.foreign_shape, np.float32))
        layout.write(leaves[rule.ours], tensors)
    return tensors


def opened_as(path, tensors, expected, module=VIT, suffix=""):
    np.savez(path, **tensors)
    loaded = paligax.load(f"{path}{suffix}")
    assert loaded.module == module
    found = dict(native.flatten(loaded.params))
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        np.testing.assert_array_equal(found[name], leaf, err_msg=name)
    return loaded


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("root", ["", "params/", "opt/target/"])
def test_layers_stacked_or_apart_under_any_root(tmp_path, stacked, root):
    leaves = tower()
    tensors = {root + name: array for name, array in laid_out(leaves, big_vision.vit_rules(stacked)).items()}
    if root == "opt/target/":
        tensors["opt/state/step"] = np.asarray(3)
    opened_as(tmp_path / "x.npz", tensors, leaves)


def test_one_tower_of_a_larger_file(tmp_path):
    leaves = tower()
    tensors = {f"params/img/{name}": array for name, array in laid_out(leaves, big_vision.vit_rules(True)).items()}
    tensors |= {"params/img/head/kernel": np.zeros((12, 7), np.float32), "params/llm/x": np.zeros(3, np.float32)}
    loaded = opened_as(tmp_path / "x.npz", tensors, leaves, suffix=":img")
    assert loaded.description["unused"] == ["head/kernel"]
    with pytest.raises(ValueError, match=r"it has img, llm\..*x\.npz:img"):
        paligax.load(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=r"nothing under 'imgs'; it has img, llm; the nearest is img"):
        paligax.load(f"{tmp_path / 'x.npz'}:imgs")


@pytest.mark.parametrize("place", ["Transformer/posembed_input/pos_embedding", "Transformer/pos_embedding"])
def test_positions_inside_the_encoder(tmp_path, place):
    leaves = tower()
    tensors = laid_out(leaves, big_vision.vit_rules(False))
    tensors[place] = tensors.pop("pos_embedding")
    opened_as(tmp_path / "x.npz", tensors, leaves)


def test_modules_numbered_across_their_kinds(tmp_path):
    leaves = tower()
    old = {"LayerNorm_1/": "LayerNorm_2/", "MultiHeadDotProductAttention_0/": "MultiHeadDotProductAttention_1/"}
    old |= {"MlpBlock_0/": "MlpBlock_3/"}
    tensors = {}
    for name, array in laid_out(leaves, big_vision.vit_rules(False)).items():
        for new, before in old.items():
            name = name.replace(new, before)
        tensors[name] = array
    assert "Transformer/encoderblock_0/MlpBlock_3/Dense_1/bias" in tensors
    opened_as(tmp_path / "x.npz", tensors, leaves)


@pytest.mark.parametrize("combined", [False, True])
def test_a_class_token_takes_its_position_along(tmp_path, combined):
    leaves = tower(WITH_TOKEN)
    tensors = laid_out(leaves, big_vision.vit_rules(False, class_token=True))
    expected = leaves
    if combined:
        own = np.full((1, 1, 12), 0.5, np.float32)
        tensors["pos_embedding"] = np.concatenate([own, tensors["pos_embedding"]], axis=1)
        expected = leaves | {"class_token": leaves["class_token"] + own}
    opened_as(tmp_path / "x.npz", tensors, expected, WITH_TOKEN)


def test_computed_positions_are_computed_for_the_usual_side(tmp_path):
    leaves = tower()
    tensors = laid_out(leaves, big_vision.vit_rules(True))
    del tensors["pos_embedding"]
    grid = 224 // 5
    sines = np.asarray(models.vit.sincos2d(grid, grid, 12))[None]
    opened_as(tmp_path / "x.npz", tensors, leaves | {"pos_embedding": sines})


def test_siglip_with_an_inlined_pool_and_doubled_positions(tmp_path):
    module = models.SigLIP(VIT, models.TextTower(14, 2, 15, 2, vocab_size=31, max_length=6, embedding_dim=12))
    rng = np.random.default_rng(0)
    shapes = native.flatten(models.abstract_params(module, {"image": 15}))
    leaves = {name: rng.normal(size=leaf.shape).astype(np.float32) for name, leaf in shapes}
    tensors = laid_out(leaves, big_vision.two_towers_rules(True, False))
    tensors = {name.replace("img/MAPHead_0/", "img/"): array for name, array in tensors.items()}
    twice = np.ones((1, 6, 14), np.float32)
    tensors["txt/Encoder_0/pos_embedding"] = twice
    expected = leaves | {"text/pos_embedding": leaves["text/pos_embedding"] + twice}
    loaded = opened_as(tmp_path / "x.npz", tensors, expected, module)
    scores = jax.jit(loaded.module.apply)({"params": loaded.params}, jnp.zeros((2, 15, 15, 3)), jnp.ones((3, 6), int))
    assert scores.shape == (2, 3) and bool(jnp.isfinite(scores).all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"embedding/kernel": np.zeros((5, 4, 3, 12), np.float32)}, "expected square ones"),
        (lambda t: t | {"pos_embedding": np.zeros((1, 8, 12), np.float32)}, "8 positions make no square"),
        (lambda t: t | {"extra": np.zeros(3, np.float32)}, "unexpected extra"),
        (lambda t: {n: a for n, a in t.items() if "encoderblock_1/LayerNorm_0/scale" not in n}, "missing Transformer"),
        (lambda t: t | {"Transformer/encoderblock_2/LayerNorm_1/bias": np.zeros(13, np.float32)}, r"has shape \[13\]"),
        (lambda t: {n: a for n, a in t.items() if "query" not in n}, "expected Transformer/encoderblock_0/Multi"),
        (lambda t: {"weights": np.zeros(3, np.float32)}, "holds no model that paligax knows: it has weights"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, change, message):
    np.savez(tmp_path / "x.npz", **change(laid_out(tower(), big_vision.vit_rules(False))))
    with pytest.raises(ValueError, match=message):
        open_foreign(tmp_path / "x.npz")
