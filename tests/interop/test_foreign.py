import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import paligax
from paligax import models
from paligax.interop import hf_layouts, native, weight_files
from paligax.interop.foreign import is_foreign, open_foreign
from paligax.interop.layouts import Layout

MT5_CONFIG = dict(
    model_type="mt5",
    d_model=12,
    d_ff=20,
    d_kv=5,
    num_heads=3,
    num_layers=2,
    num_decoder_layers=3,
    vocab_size=31,
    feed_forward_proj="gated-gelu",
)
VIT_CONFIG = dict(
    hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3, image_size=14, patch_size=7
)


def random_params(module, *arguments):
    tree = models.unbox(module.init(jax.random.key(0), *arguments))["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), tree)


def lay_out(params, rules):
    """Their tensors, filled with our leaves."""
    leaves, tensors = dict(native.flatten(params)), {}
    for rule in rules:
        layout = Layout(rule, leaves[rule.ours].shape)
        for name in layout.names:
            tensors.setdefault(name, np.full(layout.foreign_shape, np.nan, np.float32))
        layout.write(leaves[rule.ours], tensors)
    return tensors


def save(directory, config, tensors):
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    shapes = {name: (array.shape, array.dtype) for name, array in tensors.items()}
    weight_files.write(directory / "model.safetensors", shapes, tensors.__getitem__)
    return directory


@pytest.fixture(scope="module")
def mt5():
    module = models.MT5(width=12, mlp_dim=20, encoder_depth=2, decoder_depth=3, num_heads=3, head_dim=5, vocab_size=31)
    ids = jnp.zeros((1, 1), jnp.int32)
    params = random_params(module, ids, ids)
    return params, lay_out(params, hf_layouts.mt5_rules())


def equal(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for name, leaf in native.flatten(expected):
        np.testing.assert_array_equal(dict(native.flatten(got))[name], leaf, err_msg=name)


def test_an_mt5_directory_is_opened_leaf_by_leaf(tmp_path, mt5):
    params, tensors = mt5
    loaded = paligax.load(save(tmp_path / "mt5", MT5_CONFIG, tensors))
    equal(loaded.params, params)
    ids = jnp.asarray([[3, 4, 1, 0]])
    logits = loaded.module.apply({"params": loaded.params}, ids, ids)
    assert logits.shape == (1, 4, 31) and logits.dtype == jnp.float32
    with pytest.raises(ValueError, match="MT5 generates no text"):
        loaded.generate(None, ["x"])


def test_repeated_embeddings_are_known_duplicates(tmp_path, mt5):
    _, tensors = mt5
    repeated = tensors | {"encoder.embed_tokens.weight": tensors["shared.weight"]}
    foreign = open_foreign(save(tmp_path / "mt5", MT5_CONFIG, repeated))
    assert foreign.unused == ("encoder.embed_tokens.weight",)


@pytest.mark.parametrize("prefix", ["", "vision_model."])
def test_a_siglip_image_tower_is_opened_with_and_without_its_prefix(tmp_path, prefix):
    module = models.ViT(width=12, depth=2, mlp_dim=20, num_heads=3, patch_size=7)
    params = random_params(module, jnp.zeros((1, 14, 14, 3)))
    tensors = {prefix + name: array for name, array in lay_out(params, hf_layouts.siglip_vision_rules()).items()}
    tensors[f"{prefix}head.probe"] = np.zeros((1, 1, 12), np.float32)
    directory = save(tmp_path / "vit", VIT_CONFIG | {"model_type": "siglip_vision_model"}, tensors)
    loaded = paligax.load(directory)
    equal(loaded.params, params)
    assert loaded.module == module and loaded.description["unused"] == ["head.probe"]


def test_a_vits_class_token_takes_its_position_along(tmp_path):
    module = models.ViT(
        width=12, depth=2, mlp_dim=20, num_heads=3, patch_size=7, class_token=True, activation="gelu", epsilon=1e-12
    )
    params = random_params(module, jnp.zeros((1, 14, 14, 3)))
    rules = [rule for rule in hf_layouts.vit_rules() if rule.ours not in ("class_token", "pos_embedding")]
    token, position = np.full((1, 1, 12), 3, np.float32), np.full((1, 1, 12), 0.5, np.float32)
    tensors = lay_out(params, rules) | {
        "embeddings.cls_token": token,
        "embeddings.position_embeddings": np.concatenate([position, params["pos_embedding"]], axis=1),
    }
    tensors = {f"vit.{name}": array for name, array in tensors.items()} | {"classifier.bias": np.zeros(2, np.float32)}
    loaded = paligax.load(save(tmp_path / "vit", VIT_CONFIG | {"model_type": "vit"}, tensors))
    equal(loaded.params, params | {"class_token": token + position})
    assert loaded.module == module
    assert loaded.module.apply({"params": loaded.params}, jnp.zeros((2, 14, 14, 3))).shape == (2, 5, 12)


def test_only_the_shards_asked_for_are_copied(tmp_path, mt5):
    params, tensors = mt5
    foreign = open_foreign(save(tmp_path / "mt5", MT5_CONFIG, tensors))
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    name = "encoder/attention/query/kernel"
    wanted = {name: jax.ShapeDtypeStruct(foreign.shapes[name].shape, jnp.bfloat16, sharding=sharding)}
    read = foreign.read(wanted)[name]
    assert read.sharding == sharding and read.dtype == jnp.bfloat16
    expected = params["encoder"]["attention"]["query"]["kernel"].astype(jnp.bfloat16)
    np.testing.assert_array_equal(read, expected)


def test_everything_that_does_not_fit_is_told_at_once(tmp_path, mt5):
    _, tensors = mt5
    changed = dict(tensors)
    changed["encoder.block.0.layer.0.SelfAttention.query.weight"] = changed.pop(
        "encoder.block.0.layer.0.SelfAttention.q.weight"
    )
    changed["lm_head.weight"] = np.zeros((30, 12), np.float32)
    changed["encoder.final_layer_norm.weight"] = np.zeros(12, np.int32)
    with pytest.raises(ValueError, match="in 4 places") as raised:
        open_foreign(save(tmp_path / "mt5", MT5_CONFIG, changed))
    message = str(raised.value)
    assert "missing encoder.block.0.layer.0.SelfAttention.q.weight (there is encoder.block.0" in message
    assert "lm_head.weight has shape [30, 12], expected [31, 12]" in message
    assert "encoder.final_layer_norm.weight has dtype int32" in message
    assert "unexpected encoder.block.0.layer.0.SelfAttention.query.weight [15, 12]" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mt6"}, "'mt6'.*nearest is mt5"),
        ({"model_type": None}, "model_type None"),
        ({"feed_forward_proj": "relu"}, "the gated one"),
        ({"feed_forward_proj": "gated-tanh"}, "activation 'tanh'"),
        ({"d_model": "12"}, "d_model = '12'"),
        ({"d_model": -1}, "d_model = -1"),
        ({"d_model": 1 << 30}, "positive whole number"),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon"),
    ],
)
def test_configurations_that_cannot_be_are_refused(tmp_path, mt5, change, message):
    with pytest.raises(ValueError, match=message):
        open_foreign(save(tmp_path / "mt5", MT5_CONFIG | change, mt5[1]))


def test_a_directory_without_weights_says_what_it_has(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(MT5_CONFIG))
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="none of model.safetensors.*it has config.json, weights.bin"):
        open_foreign(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="no JSON object"):
        open_foreign(tmp_path)


def test_a_file_of_the_directory_means_the_directory(tmp_path, mt5):
    params, tensors = mt5
    directory = save(tmp_path / "mt5", MT5_CONFIG, tensors)
    equal(paligax.load(directory / "model.safetensors").params, params)


def test_flax_classes_of_transformers_lie_in_msgpack_under_names_of_their_own(tmp_path, mt5):
    """FlaxMT5ForConditionalGeneration's tree: kernels are transposed, embeddings called so."""
    from flax import serialization

    params, tensors = mt5
    tree = {}
    for name, array in tensors.items():
        *parents, last = name.split(".")
        embedding = parents[-1] in ("shared", "relative_attention_bias")
        if last == "weight" and array.ndim == 2:
            last, array = ("embedding", array) if embedding else ("kernel", np.ascontiguousarray(array.T))
        tree["/".join([*parents, last])] = array
    (tmp_path / "config.json").write_text(json.dumps(MT5_CONFIG))
    (tmp_path / "flax_model.msgpack").write_bytes(serialization.to_bytes(native.unflatten(tree)))
    for path in (tmp_path, tmp_path / "flax_model.msgpack"):
        equal(paligax.load(path).params, params)


def test_sources_of_two_makers_fill_a_pali_and_nothing_else(tmp_path, mt5):
    """big_vision's image tower resampled to a larger grid, transformers' mT5, sharded onto a mesh as they are read."""
    from paligax.interop import big_vision
    from paligax.training.initialise import InitialSource, initialise

    language, tensors = mt5
    small = models.ViT(width=12, depth=2, mlp_dim=20, num_heads=3, patch_size=7)
    vision = random_params(small, jnp.zeros((1, 14, 14, 3)))
    np.savez(
        tmp_path / "vit.npz", **{f"params/img/{n}": a for n, a in lay_out(vision, big_vision.vit_rules(False)).items()}
    )
    pali = models.PaLI(vision=small, language=paligax.load(save(tmp_path / "mt5", MT5_CONFIG, tensors)).module)
    mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:4])
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def placed(leaf):
        return jax.device_put(np.full(leaf.shape, 7, np.float32), rows if leaf.shape[0] % 4 == 0 else whole)

    fresh = jax.tree.map(placed, models.abstract_params(pali, {"image": 21}))
    sources = [
        InitialSource(f"{tmp_path / 'vit.npz'}:img", (("", "vision"),)),
        InitialSource(str(tmp_path / "mt5"), (("", "language"),)),
    ]
    told = []
    params = initialise(sources, fresh, told.append)
    equal(params["language"], language)
    assert jax.tree.map(lambda x: x.sharding, params) == jax.tree.map(lambda x: x.sharding, fresh)
    np.testing.assert_array_equal(
        params["vision"]["pos_embedding"], models.resample_positions(vision["pos_embedding"], 9)
    )
    equal({**params["vision"], "pos_embedding": 0}, {**vision, "pos_embedding": 0})
    assert (np.asarray(params["projection"]["kernel"]) == 7).all()
    lines = "\n".join(told)
    assert "resampled 1×4×12 → 1×9×12 (align_corners)" in lines and lines.count("left at its initialisation") == 2


@pytest.mark.parametrize("own", ["paligax.json", "checkpoint.json", "checkpoints/x"])
def test_a_directory_of_ours_stays_ours_whatever_lies_beside(tmp_path, own):
    np.savez(tmp_path / "notes.npz", x=np.zeros(3))
    assert is_foreign(tmp_path)
    (tmp_path / own).parent.mkdir(exist_ok=True)
    (tmp_path / own).write_text("{}")
    assert not is_foreign(tmp_path)
