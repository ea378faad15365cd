import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paligax import models
from paligax.models.vit import Classifier, ViT, normalise, resample_positions, sincos2d


def _small(**overrides):
    return ViT(**(dict(width=24, depth=2, mlp_dim=48, num_heads=3, patch_size=8) | overrides))


def _count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "name,millions", [("B/16", 86), ("L/14", 303), ("So400m/14", 412), ("g/14", 1011), ("G/14", 1843), ("e/14", 3805)]
)
def test_variants_have_the_published_numbers_of_parameters(name, millions):
    image = jnp.zeros((1, 224, 224, 3))
    assert round(_count(jax.eval_shape(ViT.variant(name).init, jax.random.key(0), image)) / 1e6) == millions


def test_unknown_variants_and_bad_heads_are_refused():
    with pytest.raises(ValueError, match="'H/14' is not known"):
        ViT.variant("H/14")
    with pytest.raises(ValueError, match="width 25 is not a multiple of num_heads 3"):
        _small(width=25)


def test_sincos_positions_are_those_of_the_paper():
    """MoCo v3's formula, written out for one place: column 2, row 1 of a grid of 2 × 3."""
    positions = sincos2d(2, 3, 24)
    assert positions.shape == (6, 24)
    angles = [place / 10_000 ** (k / 5) for place in (2, 1) for k in range(6)]
    expected = np.concatenate([np.sin(angles[:6]), np.cos(angles[:6]), np.sin(angles[6:]), np.cos(angles[6:])])
    np.testing.assert_allclose(positions[5], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="multiple of 4; got 6"):
        sincos2d(2, 3, 6)


def test_positions_start_small_and_random_or_as_sines_and_cosines():
    image = jnp.zeros((1, 16, 24, 3))
    positions = [
        models.unbox(_small(width=48, position_init=start).init(jax.random.key(0), image))["params"]["pos_embedding"]
        for start in ("normal", "sincos2d")
    ]
    assert abs(positions[0].std() * 48**0.5 - 1) < 0.15
    np.testing.assert_array_equal(positions[1][0], sincos2d(2, 3, 48))
    with pytest.raises(ValueError, match="position_init='sincos': expected one of normal, sincos2d"):
        _small(position_init="sincos")


def test_the_patch_embedding_is_a_valid_convolution():
    image = jax.random.normal(jax.random.key(0), (2, 20, 27, 3))  # 2 × 3 whole patches
    module = _small(depth=1)
    params = models.unbox(module.init(jax.random.key(1), image))["params"]
    want = jax.lax.conv_general_dilated(
        image, params["embedding"]["kernel"], (8, 8), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ).reshape(2, 6, 24)
    _, seen = module.apply({"params": params}, image, capture_intermediates=lambda m, _: m.name == "embedding")
    np.testing.assert_allclose(
        seen["intermediates"]["embedding"]["__call__"][0] - params["embedding"]["bias"], want, atol=1e-4
    )
    assert module.apply({"params": params}, image).shape == (2, 6, 24)


@pytest.mark.slow
def test_bfloat16_is_near_float32():
    image = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3), minval=-1)
    params = models.unbox(_small().init(jax.random.key(1), image))
    exact, rounded = (_small(dtype=dtype).apply(params, image) for dtype in ("float32", "bfloat16"))
    assert rounded.dtype == jnp.bfloat16
    np.testing.assert_allclose(rounded.astype(jnp.float32), exact, atol=0.15)


def test_pixels_lie_in_minus_one_to_one():
    np.testing.assert_allclose(normalise(np.array([0, 255], np.uint8), "float32"), [-1, 1], atol=1e-6)


def test_positions_are_resampled_as_scipys_zoom_of_order_one():
    grid = np.random.default_rng(0).normal(size=(4, 4, 3)).astype(np.float32)
    from scipy import ndimage

    want = ndimage.zoom(grid, (6 / 4, 6 / 4, 1), order=1)
    got = resample_positions(grid.reshape(1, 16, 3), 36).reshape(6, 6, 3)
    np.testing.assert_allclose(got, want, atol=1e-5)
    half = resample_positions(grid.reshape(1, 16, 3), 36, "half_pixel").reshape(6, 6, 3)
    assert np.abs(half - want).max() > 0.01
    np.testing.assert_allclose(resample_positions(grid.reshape(1, 16, 3), 16)[0], grid.reshape(16, 3), atol=1e-6)


def test_positions_of_other_shapes_or_rules_are_refused():
    with pytest.raises(ValueError, match="square grids only: got 15 → 36"):
        resample_positions(jnp.zeros((1, 15, 2)), 36)
    with pytest.raises(ValueError, match="'nearest' is not known"):
        resample_positions(jnp.zeros((1, 16, 2)), 36, "nearest")


@pytest.mark.slow
def test_classifier_starts_at_its_bias_and_orders_regions_by_rows():
    image = np.zeros((2, 32, 32, 3), np.uint8)
    module = Classifier(_small(), num_classes=5, num_region_classes=7, grid=2, head_bias=-3.0)
    params = models.unbox(module.init(jax.random.key(0), image))["params"]
    logits = module.apply({"params": params}, image)
    assert logits.shape == (2, 5 + 4 * 7) and logits.dtype == jnp.float32
    np.testing.assert_array_equal(logits, -3.0)

    # Only the lower right region sees a bright patch.
    params["region_head"]["kernel"] = jax.random.normal(jax.random.key(1), params["region_head"]["kernel"].shape)
    params["vision"]["blocks"] = jax.tree.map(jnp.zeros_like, params["vision"]["blocks"])
    image[0, 24:, 24:] = 255
    regions = module.apply({"params": params}, image)[:, 5:].reshape(2, 4, 7)
    changed = np.abs(regions[0] - regions[1]).max(axis=-1) > 1e-4
    np.testing.assert_array_equal(changed, [False, False, False, True])


def test_a_grid_that_does_not_divide_the_patches_is_refused():
    with pytest.raises(ValueError, match="16 patches don't divide into 3 × 3"):
        Classifier(_small(), 5, 7, 3).init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.uint8))
