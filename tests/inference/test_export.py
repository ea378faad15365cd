import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest

import paligax
from paligax import models
from paligax.inference import export
from paligax.interop import native

DETAILS = dict(
    metrics={"vqa": {"exact_match": 0.8125, "blind": 0.25}},
    data={"mixture": "mini", "examples": 192000},
    prompts={"vqa": "Answer in EN: what is there? <extra_id_0>"},
    licence="Pictograms by OpenMoji, CC BY-SA 4.0.",
)


def test_the_directory_says_everything(module, params, vocabulary, lengths, tmp_path):
    path = export.export(tmp_path / "deep" / "model", module, params, vocabulary, feature_lengths=lengths, **DETAILS)
    assert sorted(p.name for p in path.iterdir()) == [
        "README.md",
        "architecture.json",
        "model.safetensors",
        "paligax.json",
    ]
    described = json.loads((path / "paligax.json").read_text())
    assert described["format"] == "paligax" and described["format_version"] == 1
    assert described["feature_lengths"] == lengths and described["image_filter"] == "triangle"
    assert described["vocabulary"] == {"class": "ByteVocabulary", "extra_ids": 8}
    assert described["parameters"] == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert described["metrics"] == DETAILS["metrics"] and described["data"] == DETAILS["data"]
    assert models.build(json.loads((path / "architecture.json").read_text())) == module
    card = (path / "README.md").read_text()
    for needed in ("# model", "PaLI", "mini", "| vqa | exact_match | 0.8125 |", "blind", "OpenMoji", "paligax.load"):
        assert needed in card
    assert "Answer in EN: what is there? <extra_id_0>" in card
    assert [p.name for p in path.parent.iterdir()] == ["model"]  # nothing half-written is left


def test_an_earlier_export_is_replaced_and_anything_else_is_not(module, params, vocabulary, lengths, tmp_path):
    path = tmp_path / "model"
    export.export(path, module, params, vocabulary, feature_lengths=lengths, name="first")
    export.export(path, module, params, vocabulary, feature_lengths=lengths, name="second")
    assert (path / "README.md").read_text().startswith("# second")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="is no export of paligax"):
        export.export(tmp_path / "thesis", module, params, vocabulary, feature_lengths=lengths)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_a_full_disk_leaves_nothing_and_keeps_the_earlier_export(
    module, params, vocabulary, lengths, tmp_path, monkeypatch
):
    path = export.export(tmp_path / "model", module, params, vocabulary, feature_lengths=lengths, name="first")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(native, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        export.export(path, module, params, vocabulary, feature_lengths=lengths)
    assert (path / "README.md").read_text().startswith("# first")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_bfloat16_halves_the_file(module, params, vocabulary, lengths, tmp_path):
    sizes = {}
    for dtype in (None, "bfloat16"):
        path = export.export(tmp_path / str(dtype), module, params, vocabulary, feature_lengths=lengths, dtype=dtype)
        weights = native.load(path / "model.safetensors")
        sizes[dtype] = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    assert sizes["bfloat16"] * 2 == sizes[None]
    got = weights["language"]["logits"]["kernel"]
    assert got.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(got, params["language"]["logits"]["kernel"].astype(ml_dtypes.bfloat16))
    loaded = paligax.load(tmp_path / "bfloat16")
    assert loaded.params["projection"]["bias"].dtype == ml_dtypes.bfloat16
    assert len(loaded.generate(None, ["what? <extra_id_0>"])) == 1
    with pytest.raises(ValueError, match="choose float32, bfloat16 or float16"):
        export.export(tmp_path / "x", module, params, vocabulary, feature_lengths=lengths, dtype="int3")


def test_parameters_of_another_model_are_refused(module, params, vocabulary, lengths, tmp_path):
    wrong = {**params, "projection": {"kernel": params["projection"]["kernel"]}}
    with pytest.raises(ValueError, match=r"missing projection/bias \(16,\)"):
        export.export(tmp_path / "x", module, wrong, vocabulary, feature_lengths=lengths)
    with pytest.raises(ValueError, match="vision/pos_embedding has shape"):
        export.export(tmp_path / "x", module, params, vocabulary, feature_lengths=lengths | {"image": 32})
    with pytest.raises(ValueError, match="lack targets"):
        export.export(tmp_path / "x", module, params, vocabulary, feature_lengths={"image": 16, "inputs": 8})
    assert not list(tmp_path.iterdir())


def test_a_sentencepiece_file_goes_along(module, params, lengths, tmp_path, sentencepiece_vocabulary):
    path = export.export(tmp_path / "model", module, params, sentencepiece_vocabulary, feature_lengths=lengths)
    assert (path / "vocabulary.model").read_bytes() == open(sentencepiece_vocabulary.path, "rb").read()
    described = json.loads((path / "paligax.json").read_text())["vocabulary"]
    assert described == {"class": "SentencePieceVocabulary", "path": "vocabulary.model", "extra_ids": 4}
    shutil.rmtree(path)


def test_a_classifier_has_no_vocabulary(tmp_path):
    vision = models.ViT(width=16, depth=1, mlp_dim=32, num_heads=2, patch_size=8)
    module = models.Classifier(vision=vision, num_classes=3)
    lengths = {"image": 16, "labels": 3}
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), models.abstract_params(module, lengths))
    path = export.export(tmp_path / "vit", module, params, None, feature_lengths=lengths, class_names=("a", "b", "c"))
    assert json.loads((path / "paligax.json").read_text())["class_names"] == ["a", "b", "c"]
    assert "Image classifier" in (path / "README.md").read_text()
    with pytest.raises(ValueError, match="lack labels"):
        export.check_lengths(module, {"image": 16})
    export.check_lengths(vision, {"image": 16})
