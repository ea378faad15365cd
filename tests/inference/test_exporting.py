"""What `paligax export` writes gives the answers of what it was written from."""

import json

import jax
import ml_dtypes
import numpy as np
import pytest

import paligax
from paligax import models
from paligax.inference import export, exporting, whole
from paligax.inference.exporting import Told
from tests.inference import saved_run


@pytest.fixture
def source(module, params, vocabulary, lengths, tmp_path):
    data = {"mixture": "webli"}
    return export.export(tmp_path / "source", module, params, vocabulary, feature_lengths=lengths, data=data)


ASKED = ["what? <extra_id_0>", "a longer one <extra_id_0>", "and a third"]


def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, np.uint8) for size in ((16, 16, 3), (40, 25, 3))] + [None]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["paligax", "stablehlo"])
def test_an_export_answers_as_the_checkpoint(module, params, vocabulary, lengths, form, tmp_path):
    source = tmp_path / "run"
    saved_run.save(source, module, params, vocabulary, "MIXTURE_OR_TASK_NAME = 'webli'\n", lengths)
    (source / "metrics.jsonl").write_text('{"step": 7, "eval/ocr/f1": 0.25}\n')
    told = Told({"vqa": {"f1": 0.5}}, {"tasks": "vqa 100 %"}, licence="CC BY 4.0", name="Tiny")
    (path,) = exporting.write(source, tmp_path / "to", form, told=told)
    assert paligax.load(path).generate(pictures(), ASKED) == paligax.load(source).generate(pictures(), ASKED)
    described = json.loads((path / "paligax.json").read_text())
    assert described["data"] == {"mixture": "webli", "steps of this checkpoint": 7, "tasks": "vqa 100 %"}
    assert (path / "config.gin").read_text() == "MIXTURE_OR_TASK_NAME = 'webli'\n"
    assert described["metrics"] == {"vqa": {"f1": 0.5}}
    text = (path / "README.md").read_text()
    for line in ("# Tiny", "- mixture: webli", "- tasks: vqa 100 %", "| vqa | f1 | 0.5000 |", "CC BY 4.0"):
        assert line in text
    (plain,) = exporting.write(source / "checkpoints" / "7", tmp_path / "plain", form)
    described = json.loads((plain / "paligax.json").read_text())
    assert described["metrics"] == {"ocr": {"f1": 0.25}} and described["data"]["tasks"] == "vqa"
    assert ("open_programs" in text) == (form == "stablehlo")


def test_bfloat16_is_loaded_as_stored(source, tmp_path):
    (path,) = exporting.write(source, tmp_path / "half", "paligax", dtype="bfloat16")
    half = paligax.load(path)
    assert half.params["projection"]["kernel"].dtype == ml_dtypes.bfloat16
    (again,) = exporting.write(path, tmp_path / "again", "stablehlo")
    assert paligax.load(again).generate(pictures(), ASKED) == half.generate(pictures(), ASKED)


def test_transformers_towers_are_opened_one_by_one(source, params, tmp_path):
    written = exporting.write(source, tmp_path / "hf", "hf")
    assert [path.name for path in written] == ["language", "vision", "projection.safetensors"]
    language = paligax.load(tmp_path / "hf" / "language")
    np.testing.assert_array_equal(language.params["token_embedder"], params["language"]["token_embedder"])
    with pytest.raises(ValueError, match="holds the towers of a PaLI in another format: open '.*hf/language'"):
        paligax.load(tmp_path / "hf")


def test_nothing_is_overwritten_and_nothing_half_written(source, tmp_path, monkeypatch):
    with pytest.raises(FileExistsError, match="would be overwritten"):
        exporting.write(source, source, "paligax")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "write_weights", full)
    for form in ("paligax", "stablehlo"):
        with pytest.raises(OSError, match="No space left on device.*Nothing is left of it"):
            exporting.write(source, tmp_path / "to", form)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_words_that_mean_nothing_are_refused(source, tmp_path, lengths):
    with pytest.raises(ValueError, match="Format 'onnx' is not known; known: paligax, stablehlo"):
        exporting.write(source, tmp_path / "to", "onnx")
    with pytest.raises(ValueError, match="max_length=0: the most tokens"):
        exporting.write(source, tmp_path / "to", "stablehlo", max_length=0)
    vision = models.ViT(width=16, depth=1, mlp_dim=32, num_heads=2, patch_size=8)
    shapes = models.abstract_params(vision, lengths)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    export.export(tmp_path / "vit", vision, zeros, None, feature_lengths={"image": 16})
    with pytest.raises(ValueError, match="ViT generates no text"):
        exporting.write(tmp_path / "vit", tmp_path / "to", "stablehlo")
    assert not (tmp_path / "to").exists() and whole.check_place(tmp_path / "to")
