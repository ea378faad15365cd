import jax
import jax.numpy as jnp
import numpy as np
import pytest

from paligax import configuration, models
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


@pytest.mark.parametrize(
    ("name", "vision", "language", "projection"),
    [
        ("pali_3b", 1843, 1_229_581_312, 1664 * 1024 + 1024),
        ("pali_5b", 3805, 1_229_581_312, 1792 * 1024 + 1024),
        ("pali_15b", 1843, 12_921_057_280, 1664 * 4096 + 4096),
        ("pali_17b", 3805, 12_921_057_280, 1792 * 4096 + 4096),
    ],
)
def test_the_papers_models_have_their_numbers_of_parameters(name, vision, language, projection):
    run = ["MIXTURE_OR_TASK_NAME=x", "TASK_FEATURE_LENGTHS={}", "BATCH_SIZE=8", "TRAIN_STEPS=1", "DATA_DIR=x"]
    gin_files = ["runs/train.gin", f"models/{name}.gin"]
    config = configuration.parse(gin_files, [*run, "VOCABULARY_PATH=x"], ["Trainer"], model_dir="x")
    module = config.build("PaLI")
    shapes = models.abstract_params(module, {"image": 224})

    def count(tree):
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))

    assert round(count(shapes["vision"]) / 1e6) == vision
    assert count(shapes["language"]) == language
    assert count(shapes["projection"]) == projection
    assert (module.vision.dtype, module.language.remat) == ("bfloat16", "full")
