import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paligax import models
from paligax.models import MT5, PaLI, ViT


@pytest.fixture(scope="module")
def example():
    vision = ViT(width=12, depth=1, mlp_dim=24, num_heads=2, patch_size=8)
    language = MT5(
        width=16, mlp_dim=24, encoder_depth=2, decoder_depth=2, num_heads=2, head_dim=8, vocab_size=40, max_distance=32
    )
    module = PaLI(vision=vision, language=language)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (3, 16, 16, 3), np.uint8)
    inputs, targets = (jnp.asarray(rng.integers(2, 40, (3, n)), jnp.int32) for n in (5, 4))
    variables = jax.jit(module.init)(jax.random.key(0), image, inputs, targets)
    return module, variables, image, inputs, targets


def test_parameters_have_three_subtrees_and_every_axis_a_name(example):
    module, variables, *_ = example
    params = models.unbox(variables)["params"]
    assert set(params) == {"vision", "projection", "language"}
    axes = models.logical_axes(variables)["params"]
    leaves = jax.tree.leaves(axes, is_leaf=lambda leaf: isinstance(leaf, tuple))
    assert len(leaves) == len(jax.tree.leaves(params)) and all(any(leaf) for leaf in leaves)


def test_image_tokens_stand_before_the_text(example):
    module, variables, image, inputs, _ = example
    states, mask = module.apply(models.unbox(variables), image, inputs, np.array([True, False, True]), method="encode")
    assert states.shape == (3, 4 + 5, 16)
    np.testing.assert_array_equal(mask[:, :4], [[True] * 4, [False] * 4, [True] * 4])
    np.testing.assert_array_equal(mask[:, 4:], True)


def test_a_masked_image_is_not_looked_at(example):
    module, variables, image, inputs, targets = example
    params = models.unbox(variables)
    mask = np.array([True, False, True])
    apply = jax.jit(module.apply)
    logits = apply(params, image, inputs, targets, mask)
    other = apply(params, 255 - image, inputs, targets, mask)
    np.testing.assert_allclose(other[1], logits[1], atol=1e-6)
    assert np.abs(other[0] - logits[0]).max() > 1e-3
    np.testing.assert_allclose(apply(params, image, inputs, targets)[0], logits[0], atol=1e-6)


def test_cached_steps_equal_teacher_forcing(example):
    module, variables, image, inputs, targets = example
    params = models.unbox(variables)
    logits = jax.jit(module.apply)(params, image, inputs, targets)
    states, mask = jax.jit(lambda *args: module.apply(params, *args, method="encode"))(image, inputs)
    cache = jax.jit(lambda s, m: module.apply(params, s, m, 4, method="start_decoding"))(states, mask)
    decode = jax.jit(lambda tokens, cache: module.apply(params, tokens, cache, method="decode_step"))
    tokens = jnp.zeros(3, jnp.int32)
    for t in range(4):
        step, cache = decode(tokens, cache)
        np.testing.assert_allclose(step, logits[:, t], atol=1e-5)
        tokens = targets[:, t]


def test_description_round_trip(example):
    module, *_ = example
    described = models.describe(module)
    assert described["class"] == "PaLI" and described["vision"]["patch_size"] == 8
    assert models.build(described) == module
    with pytest.raises(ValueError, match="'Flamingo' is not known"):
        models.build({"class": "Flamingo"})
    with pytest.raises(ValueError, match="ViT has no argument size"):
        models.build(described | {"vision": described["vision"] | {"size": 3}})
