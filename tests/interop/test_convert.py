"""Weights out and in again: the same bits, whatever the format; and what transformers makes of them."""

import importlib.util
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import paligax
from paligax import cli, models
from paligax.inference import conversion, export
from paligax.interop import native
from paligax.interop.weight_files import Tensors
from paligax.vocabulary import ByteVocabulary
from tests.interop import references

HAVE_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
VIT = models.ViT(width=12, depth=3, mlp_dim=20, num_heads=2, patch_size=5)
CLASSIFYING = models.ViT(
    width=12, depth=2, mlp_dim=20, num_heads=2, patch_size=5, class_token=True, activation="gelu", epsilon=1e-3
)
MT5 = models.MT5(18, 22, 2, 3, num_heads=3, head_dim=4, vocab_size=300, num_buckets=8, max_distance=64)
UMT5 = models.MT5(18, 22, 2, 3, num_heads=3, head_dim=4, vocab_size=300, bias_per_layer=True, scale_logits=True)
SIGLIP = models.SigLIP(VIT, models.TextTower(14, 2, 15, 2, vocab_size=31, max_length=6, embedding_dim=12))
PALI = models.PaLI(VIT, MT5)
LENGTHS = {"image": 15, "inputs": 6, "targets": 5, "labels": 3}


def exported(path, module, dtype=np.float32):
    """A model with random weights as paligax exports it; returns its leaves too."""
    lengths = {name: LENGTHS[name] for name in models.lengths_of(module)}
    rng = np.random.default_rng(0)
    shapes = dict(native.flatten(models.abstract_params(module, lengths)))
    leaves = {name: rng.normal(size=leaf.shape).astype(dtype) for name, leaf in shapes.items()}
    vocabulary = ByteVocabulary(extra_ids=8) if isinstance(module, models.PaLI) else None
    export.export(path, module, native.unflatten(leaves), vocabulary, feature_lengths=lengths)
    return leaves


def same(got, expected):
    got = dict(native.flatten(got))
    assert got.keys() == expected.keys()
    for name, leaf in expected.items():
        assert got[name].dtype == leaf.dtype, name
        np.testing.assert_array_equal(np.asarray(got[name]), leaf, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize(
    ("form", "module"),
    [
        ("hf", MT5),
        ("hf", UMT5),
        ("hf", VIT),
        ("hf", SIGLIP),
        ("hf", CLASSIFYING),
        ("big_vision", VIT),
        ("big_vision", CLASSIFYING),
        ("big_vision", SIGLIP),
        ("t5x", MT5),
        ("t5x", UMT5),
    ],
)
def test_there_and_back_are_the_same_bits(tmp_path, form, module, dtype):
    leaves = exported(tmp_path / "ours", module, dtype)
    conversion.convert(tmp_path / "ours", tmp_path / "theirs", form)
    loaded = paligax.load(tmp_path / "theirs")
    same(loaded.params, leaves)
    assert loaded.module == module
    conversion.convert(tmp_path / "theirs", tmp_path / "back", "paligax")
    same(paligax.load(tmp_path / "back").params, leaves)
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (
        tmp_path / "ours" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize("name", ["mt5", "siglip", "siglip_vision"])
def test_what_transformers_saved_goes_out_as_it_came(tmp_path, name):
    source = references.HERE / name
    conversion.convert(source, tmp_path / "ours", "paligax")
    conversion.convert(tmp_path / "ours", tmp_path / "theirs", "hf")
    before, after = (Tensors(path / "model.safetensors") for path in (source, tmp_path / "theirs"))
    prefix = "vision_model." if name == "siglip_vision" else ""
    unused = ("head.",) if name == "siglip_vision" else ("encoder.embed_tokens", "decoder.embed_tokens")
    kept = {prefix + n: array for n, array in before.items() if not n.startswith(unused)}
    assert kept.keys() == after.keys()
    for n, array in kept.items():
        np.testing.assert_array_equal(after[n], array, err_msg=n)


def test_a_palis_towers_are_written_each_and_nothing_is_lost(tmp_path, capsys):
    leaves = exported(tmp_path / "ours", PALI)
    words = [f"--from={tmp_path / 'ours'}", f"--to={tmp_path / 'hf'}", "--format=hf"]
    assert cli.main(["convert", *words]) == 0
    assert [line.split("/")[-1] for line in capsys.readouterr().out.splitlines()] == [
        "language",
        "vision",
        "projection.safetensors",
    ]
    for tower in ("language", "vision"):
        below = {n.removeprefix(f"{tower}/"): leaf for n, leaf in leaves.items() if n.startswith(f"{tower}/")}
        same(paligax.load(tmp_path / "hf" / tower).params, below)
    between = dict(Tensors(tmp_path / "hf" / "projection.safetensors"))
    assert between.keys() == {"projection/kernel", "projection/bias"}
    np.testing.assert_array_equal(between["projection/kernel"], leaves["projection/kernel"])
    conversion.convert(tmp_path / "ours", tmp_path / "copy", "paligax")
    copy = paligax.load(tmp_path / "copy")
    same(copy.params, leaves)
    assert copy.vocabulary == ByteVocabulary(extra_ids=8) and len(copy.generate(None, ["x"])) == 1


def test_one_tower_and_another_dtype(tmp_path):
    leaves = exported(tmp_path / "ours", PALI)
    [file] = conversion.convert(tmp_path / "ours", tmp_path / "vit.npz", "big_vision", part="vision", dtype="bfloat16")
    assert file == tmp_path / "vit.npz"
    got = dict(native.flatten(paligax.load(f"{file}").params))
    for name, leaf in got.items():
        np.testing.assert_array_equal(leaf, leaves[f"vision/{name}"].astype(ml_dtypes.bfloat16))
    with np.load(file, allow_pickle=False) as archive:
        assert archive["params/embedding/kernel"].dtype.str == "|V2"  # as big_vision stores bfloat16


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (MT5, {"form": "big_vision"}, "holds ViTs and SigLIP; got MT5"),
        (VIT, {"form": "t5x"}, "holds an MT5; got ViT"),
        (MT5, {"form": "numpy"}, "'numpy' is not known; known: paligax, hf"),
        (PALI, {"form": "hf", "part": "audio"}, "no part 'audio'; it has vision, language"),
        (VIT, {"form": "hf", "dtype": "int8"}, "'int8' is not known"),
    ],
)
def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path, module, options, message):
    exported(tmp_path / "ours", module)
    with pytest.raises(ValueError, match=message):
        conversion.convert(tmp_path / "ours", tmp_path / "out", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_nothing_is_written_over(tmp_path):
    exported(tmp_path / "ours", VIT)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match="choose another place"):
        conversion.convert(tmp_path / "ours", tmp_path / "out", "hf")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep me"


def test_an_architecture_of_another_model_is_refused(tmp_path):
    exported(tmp_path / "ours", VIT)
    conversion.convert(tmp_path / "ours", tmp_path / "out", "big_vision")
    (tmp_path / "out" / "architecture.json").write_text(json.dumps(models.describe(MT5)))
    with pytest.raises(ValueError, match="describes a MT5, beside it lies a ViT"):
        paligax.load(tmp_path / "out")


@pytest.mark.skipif(not HAVE_TORCH, reason="torch and transformers are not installed (pip install -e .[parity])")
def test_transformers_opens_what_was_written_and_computes_the_same(tmp_path):
    import torch
    import transformers

    exported(tmp_path / "ours", PALI)
    conversion.convert(tmp_path / "ours", tmp_path / "hf", "hf")
    language, vision = (paligax.load(tmp_path / "hf" / name) for name in ("language", "vision"))

    def opened(cls, name):
        model, told = cls.from_pretrained(tmp_path / "hf" / name, output_loading_info=True)
        assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
        return model.eval()

    ids, targets = np.array([[5, 9, 30, 1], [7, 1, 0, 0]]), np.array([[4, 8, 1], [3, 1, 0]])
    with torch.no_grad():
        model = opened(transformers.MT5ForConditionalGeneration, "language")
        ids_there, labels = torch.tensor(ids), torch.tensor(targets)
        theirs = model(input_ids=ids_there, attention_mask=(ids_there > 0).long(), labels=labels).logits
        image = np.random.default_rng(1).uniform(-1, 1, (2, 15, 15, 3)).astype(np.float32)
        tower = opened(transformers.SiglipVisionModel, "vision")
        tokens = tower(torch.tensor(image).permute(0, 3, 1, 2)).last_hidden_state
    ours = language.module.apply({"params": language.params}, jnp.asarray(ids), jnp.asarray(targets))
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * float(jnp.abs(ours).max()))
    ours = vision.module.apply({"params": vision.params}, jnp.asarray(image))
    np.testing.assert_allclose(ours, tokens, atol=1e-4 * float(jnp.abs(ours).max()))
    assert jax.tree.leaves(language.params)[0].dtype == jnp.float32
