import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from paligax import models
from paligax.training import trees
from paligax.training.initialise import InitialSource, initialise

RNG = np.random.default_rng(0)


def draw(*shape, dtype=np.float32):
    return RNG.normal(size=shape).astype(dtype)


def export(path, leaves):
    """A file of an exported model."""
    safetensors.numpy.save_file({name: np.ascontiguousarray(leaf) for name, leaf in leaves.items()}, path)
    return str(path)


@pytest.fixture
def params():
    leaves = {
        "language/encoder/kernel": draw(3, 4),
        "projection/kernel": draw(2, 4),
        "vision/blocks/kernel": draw(2, 2),
        "vision/pos_embedding": draw(1, 9, 2),
    }
    return trees.unflatten({name: jax.device_put(leaf) for name, leaf in leaves.items()})


@pytest.fixture
def vision(tmp_path):
    """A classifier's weights: name → array, and their file."""
    leaves = {"vision/blocks/kernel": draw(2, 2), "vision/pos_embedding": draw(1, 9, 2), "head/kernel": draw(2, 7)}
    return leaves, export(tmp_path / "vision.safetensors", leaves)


def filled(sources, params, say=lambda line: None):
    return {name: np.asarray(leaf) for name, leaf in trees.flatten(initialise(sources, params, say)).items()}


def test_nothing_to_do(params, lines):
    assert initialise((), params, lines.append) is params and not lines


def test_several_sources_each_to_its_subtree_every_leaf_is_said(params, vision, tmp_path, lines):
    leaves, path = vision
    kernel = draw(3, 4)
    language = export(tmp_path / "t5.safetensors", {"encoder/kernel": kernel})
    sources = (InitialSource(path, (("vision", "vision"),)), InitialSource(language, (("", "language"),)))
    got = filled(sources, params, lines.append)
    np.testing.assert_array_equal(got["vision/blocks/kernel"], leaves["vision/blocks/kernel"])
    np.testing.assert_array_equal(got["vision/pos_embedding"], leaves["vision/pos_embedding"])
    np.testing.assert_array_equal(got["language/encoder/kernel"], kernel)
    np.testing.assert_array_equal(got["projection/kernel"], params["projection"]["kernel"])
    said = {line.split()[0]: " ".join(line.split()) for line in lines}
    assert said["language/encoder/kernel"] == f"language/encoder/kernel 3×4 float32 from {language} encoder/kernel"
    assert said["projection/kernel"] == "projection/kernel 2×4 float32 left at its initialisation"
    assert len(said) == 4


def test_a_checkpoint_is_a_source(params, saved, make_state, tmp_path):
    run = saved()
    run.newest()
    run.save(3, make_state(3.0))
    run.finish()
    source = InitialSource(str(tmp_path), (("language/encoder", "language/encoder"),))
    assert np.unique(filled((source,), params)["language/encoder/kernel"]) == [3.0]


@pytest.mark.parametrize("rule", ["align_corners", "half_pixel"])
def test_positions_of_another_grid_are_resampled_and_it_is_said(params, tmp_path, lines, rule):
    positions = draw(1, 4, 2)
    path = export(tmp_path / "small.safetensors", {"kernel": draw(2, 2), "pos_embedding": positions})
    source = InitialSource(path, (("pos_embedding", "vision/pos_embedding"),), resample_positions=rule)
    got = filled((source,), params, lines.append)["vision/pos_embedding"]
    np.testing.assert_allclose(got, models.resample_positions(positions, 9, rule), rtol=1e-6)
    assert any(f"resampled 1×4×2 → 1×9×2 ({rule})" in line for line in lines)


def test_resampling_can_be_refused(params, tmp_path):
    path = export(tmp_path / "small.safetensors", {"pos_embedding": draw(1, 4, 2)})
    source = InitialSource(path, (("pos_embedding", "vision/pos_embedding"),), resample_positions="refuse")
    with pytest.raises(ValueError, match=r"vision/pos_embedding has shape \(1, 9, 2\), pos_embedding .* \(1, 4, 2\)"):
        initialise((source,), params, print)


def test_dtype_and_sharding_are_the_models(params, tmp_path):
    kernel = draw(3, 4, dtype=ml_dtypes.bfloat16)
    path = export(tmp_path / "half.safetensors", {"kernel": kernel})
    result = initialise((InitialSource(path, (("kernel", "language/encoder/kernel"),)),), params, lambda line: None)
    got = result["language"]["encoder"]["kernel"]
    assert got.dtype == np.float32 and got.sharding == params["language"]["encoder"]["kernel"].sharding
    np.testing.assert_array_equal(got, kernel.astype(np.float32))


def test_everything_that_does_not_fit_is_one_error(params, tmp_path):
    leaves = {"vision/blocks/kernle": draw(2, 2), "vision/pos_embedding": draw(1, 9, 3), "other/x": draw(1)}
    path = export(tmp_path / "odd.safetensors", leaves)
    sources = (InitialSource(path, (("vision", "vision"), ("langage", "language"), ("other", "projektion"))),)
    with pytest.raises(ValueError) as caught:
        initialise(sources, params, print)
    text = str(caught.value)
    assert "don't fit the model in 5 places" in text
    assert f"vision/blocks/kernel is missing in {path} (the nearest is blocks/kernle)" in text
    assert f"{path} has vision/blocks/kernle, the model does not (the nearest is blocks/kernel)" in text
    assert f"vision/pos_embedding has shape (1, 9, 2), vision/pos_embedding in {path} has (1, 9, 3)" in text
    assert f"{path} has nothing under 'langage'" in text
    assert "the model has nothing under 'projektion' (the nearest is projection)" in text


def test_expected_differences_are_none(params, vision):
    leaves, path = vision
    source = InitialSource(path, expected_missing=("(language|projection)/.*",), expected_unused=("head/.*",))
    got = filled((source,), params)
    np.testing.assert_array_equal(got["vision/blocks/kernel"], leaves["vision/blocks/kernel"])
    np.testing.assert_array_equal(got["language/encoder/kernel"], params["language"]["encoder"]["kernel"])


def test_two_sources_must_not_fill_the_same(params, vision):
    _, path = vision
    with pytest.raises(ValueError, match="vision/blocks/kernel is filled by .* and by"):
        initialise((InitialSource(path, (("vision", "vision"),)),) * 2, params, print)


def test_a_source_that_is_not_there(params, tmp_path):
    with pytest.raises(FileNotFoundError, match="No checkpoint at"):
        initialise((InitialSource(str(tmp_path / "gone")),), params, print)
