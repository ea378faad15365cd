import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from paligax.inference import decoding
from paligax.models import attention as attention_module
from paligax.models import kernels
from paligax.models.attention import RelativeBias, attention
from paligax.training import partitioning, step, trees
from paligax.training.partitioning import Partitioner
from tests.training import toy

ROOT = pathlib.Path(__file__).parents[2]
needs_8_devices = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices (XLA_FLAGS of tests/conftest.py)")


@pytest.fixture
def emulated(monkeypatch):
    """Splash runs here, in small blocks, so that there are several."""
    monkeypatch.setattr(kernels, "splash", functools.partial(kernels.splash, interpret=True))
    monkeypatch.setattr(kernels, "_MOST_BLOCK", 128)


def arguments(queries, keys, size, dtype="float32", batch=2, heads=2, sharding=None):
    """Query, key, value and the weights of a scalar made of the result."""
    rng = np.random.default_rng(0)
    shapes = [(batch, n, heads, size) for n in (queries, keys, keys, queries)]
    return tuple(jax.device_put(jnp.asarray(rng.normal(size=shape), dtype), sharding) for shape in shapes)


def key_mask(batch, keys):
    mask = np.random.default_rng(1).random((batch, keys)) < 0.7
    mask[:, 0] = True  # so that causal rows have a key
    return jnp.asarray(mask)


def outputs_and_gradients(q, k, v, weights, **options):
    def total(q, k, v):
        result = attention(q, k, v, scale=q.shape[-1] ** -0.5, **options)
        return (result * weights).sum().astype(jnp.float32), result

    gradients, result = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(q, k, v)
    return [np.asarray(x, np.float32) for x in (result, *gradients)]


def check_equal(got, expected, tolerance):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * max(1.0, np.abs(b).max()))


@pytest.mark.parametrize(
    "queries, keys, size, masked, causal, dtype",
    [
        (256, 256, 112, False, False, "float32"),
        (130, 130, 72, False, False, "float32"),
        (130, 130, 72, True, False, "bfloat16"),
        (130, 130, 88, True, True, "float32"),
        (300, 140, 16, True, False, "float32"),
        (140, 300, 16, False, True, "float32"),
        (256, 256, 104, False, True, "bfloat16"),
    ],
)
def test_splash_is_dense_in_outputs_and_all_gradients(emulated, queries, keys, size, masked, causal, dtype):
    values = arguments(queries, keys, size, dtype)
    options = dict(key_mask=key_mask(2, keys) if masked else None, causal=causal)
    got = outputs_and_gradients(*values, form="splash", **options)
    check_equal(got, outputs_and_gradients(*values, form="dense", **options), 2e-6 if dtype == "float32" else 2e-2)


@needs_8_devices
@pytest.mark.parametrize(
    "batch, heads, cut", [(4, 4, (("data", "fsdp"), "tensor")), (6, 3, ("data", None)), (1, 2, (None, "tensor"))]
)
def test_splash_on_a_mesh_gives_each_device_its_rows_and_heads(emulated, batch, heads, cut):
    mesh = jax.make_mesh((2, 2, 2), partitioning.MESH_AXES, axis_types=(AxisType.Auto,) * 3)
    whole = NamedSharding(mesh, PartitionSpec())
    values = arguments(130, 130, 72, batch=batch, heads=heads, sharding=whole)
    options = dict(key_mask=jax.device_put(key_mask(batch, 130), whole))
    check_equal(
        outputs_and_gradients(*values, form="splash", **options),
        outputs_and_gradients(*values, form="dense", **options),
        2e-6,
    )
    result = jax.jit(functools.partial(attention, form="splash"))(*values[:3])
    assert result.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec(cut[0], None, cut[1])), 4)


def test_the_mesh_axes_are_the_partitioners():
    assert kernels.ROW_AXES == partitioning.BATCH_AXES
    assert kernels.HEAD_AXES == (dict(partitioning.DEFAULT_RULES)["heads"],)


@pytest.mark.slow
@needs_8_devices
def test_a_train_step_on_a_mesh_uses_splash_in_scanned_and_rematerialised_layers(emulated, monkeypatch):
    monkeypatch.setattr(attention_module, "_CHUNK", 0)  # as if there were many queries

    def gradients(form):
        model = toy.classifier().clone(vision=toy.vit(depth=2, remat="full", attention_form=form))
        job = toy.job("labels", model=model, partitioner=Partitioner(2, 2, 2), num_microbatches=2)
        program = toy.program(job, devices=jax.devices())
        program.initial_state()
        rows = partitioning.batch_sharding(program.mesh)
        compute = jax.jit(lambda state, batch: step.gradients(program, state, batch)[0])
        batch = partitioning.to_global(toy.batch("labels", 0), rows, 8)
        return trees.flatten(jax.tree.map(np.asarray, compute(toy.random_state(program), batch)))

    got, expected = gradients("splash"), gradients("dense")
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, atol=2e-5 * max(1.0, np.abs(value).max()), err_msg=name)


@needs_8_devices
def test_training_and_decoding_know_what_they_are_compiled_for(monkeypatch):
    seen = []

    def note(query, *args, **options):
        seen.append((kernels.platform_of(query), dict(kernels.mesh_of(query).shape)))
        return attention_module.attention(query, *args, **options)

    program = toy.program(toy.job("text", partitioner=Partitioner(2, 2, 2)), devices=jax.devices())
    batch = partitioning.to_global(toy.batch("text", 0), partitioning.batch_sharding(program.mesh), 8)
    monkeypatch.setattr("paligax.models.layers.attention", note)
    step.lower_step(program)
    trained, seen = seen, []
    decoding.greedy_program.lower(
        program.module,
        toy.random_state(program).params,
        batch.image,
        batch.inputs,
        batch.image_mask,
        np.ones(8, bool),
        max_length=3,
    )
    here = ("cpu", {"data": 2, "fsdp": 2, "tensor": 2})
    assert len(trained) >= 4 and set(map(str, trained)) == {str(here)}
    assert len(seen) >= 4 and set(map(str, seen)) == {str(here)}


def test_where_no_mesh_is_known_no_platform_is():
    x = jnp.ones((1, 2, 1, 4))
    assert kernels.platform_of(x) is None
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    assert kernels.platform_of(jax.device_put(x, NamedSharding(mesh, PartitionSpec()))) == "cpu"
    with jax.set_mesh(mesh):
        assert kernels.platform_of(x) == "cpu"


def test_rows_without_keys_stay_finite_in_outputs_and_gradients(emulated):
    values = arguments(130, 130, 16)
    mask = jnp.zeros((2, 130), bool).at[1].set(True)
    got = outputs_and_gradients(*values, form="splash", key_mask=mask)
    assert all(np.isfinite(x).all() for x in got)
    check_equal([x[1] for x in got], [x[1] for x in outputs_and_gradients(*values, form="dense")], 2e-6)
    # Causal, the first queries' keys masked.
    mask = jnp.arange(130)[None] >= jnp.array([[3], [0]])
    got = outputs_and_gradients(*values, form="splash", key_mask=mask, causal=True)
    assert all(np.isfinite(x).all() for x in got)
    prepared = kernels.cudnn_arguments(*values[:3], scale=1.0, key_mask=mask & False, causal=False, bias=None)
    assert jnp.isfinite(jax.nn.dot_product_attention(**prepared)).all()


def test_blocks_are_few_and_equal():
    assert [kernels._blocks(n) for n in (130, 256, 1024, 1764, 3136)] == [
        (256, 256),
        (256, 256),
        (1024, 1024),
        (896, 1792),
        (896, 3584),
    ]


@pytest.mark.parametrize("form", ["splash", "cudnn"])
def test_kernels_refuse_what_they_do_not_take(form):
    q, k, v, _ = arguments(130, 130, 8, "bfloat16")
    with pytest.raises(ValueError, match=f"{form}.*dropout.*chunked"):
        attention(q, k, v, form=form, dropout_rate=0.5, dropout_key=jax.random.key(0))
    with pytest.raises(ValueError, match=f"{form}.*first query"):
        attention(q, k, v, form=form, first_query=3)
    with pytest.raises(ValueError, match=f"{form}.*first query"):
        attention(q, k, v, form=form, first_query=jnp.int32(0))


def test_splash_refuses_a_bias_and_cudnn_float32_and_large_heads():
    q, k, v, _ = arguments(130, 130, 8)
    with pytest.raises(ValueError, match="splash.*bias.*chunked"):
        attention(q, k, v, form="splash", bias=RelativeBias(jnp.zeros((32, 2)), True))
    with pytest.raises(ValueError, match="cudnn.*float32.*dtype='bfloat16'"):
        attention(q, k, v, form="cudnn")
    q, k, v, _ = arguments(130, 130, 128, "bfloat16")
    with pytest.raises(ValueError, match="cudnn.*136"):
        attention(q, k, v, form="cudnn", key_mask=jnp.ones((2, 130), bool))


@pytest.mark.parametrize("form", attention_module.FORMS)
def test_a_decoding_step_works_in_any_form(form):
    q, k, v, _ = arguments(1, 70, 8)
    bias = RelativeBias(jnp.ones((32, 2)), False)
    options = dict(causal=True, first_query=jnp.int32(5), bias=bias)
    np.testing.assert_array_equal(attention(q, k, v, form=form, **options), attention(q, k, v, form="dense", **options))


CUDNN_CASES = [
    (130, 130, 72, {}),
    (131, 77, 13, {"masked": True}),
    (131, 131, 64, {"masked": True, "bidirectional": True}),
    (130, 131, 64, {"bidirectional": True}),
    (131, 131, 16, {"bidirectional": False, "causal": True}),
    (130, 130, 120, {"masked": True, "causal": True}),
]


def cudnn_case(options, keys):
    options = dict(options)
    mask = key_mask(2, keys) if options.pop("masked", False) else None
    bidirectional = options.pop("bidirectional", None)
    bias = None if bidirectional is None else functools.partial(RelativeBias, bidirectional=bidirectional)
    return dict(scale=0.3, key_mask=mask, causal=options.get("causal", False)), bias or (lambda table: None)


@pytest.mark.parametrize("queries, keys, size, options", CUDNN_CASES)
def test_what_cudnn_is_given_means_dense_attention(queries, keys, size, options):
    """By XLA on the very arguments: outputs and all gradients, the bias table's too."""
    q, k, v, weights = arguments(queries, keys, size)
    masks, bias = cudnn_case(options, keys)
    table = jnp.asarray(np.random.default_rng(2).normal(size=(32, 2)), jnp.float32)
    given = {}

    def prepared(q, k, v, table):
        given.update(kernels.cudnn_arguments(q, k, v, bias=bias(table), **masks))
        return jax.nn.dot_product_attention(**given, implementation="xla")[:, :queries, :, :size]

    def dense(q, k, v, table):
        return attention(q, k, v, bias=bias(table), form="dense", **masks)

    def run(form):
        def total(*values):
            result = form(*values)
            return (result * weights).sum(), result

        gradients, result = jax.jit(jax.grad(total, argnums=(0, 1, 2, 3), has_aux=True))(q, k, v, table)
        return result, *gradients

    check_equal(run(prepared), run(dense), 5e-6)
    (_, length, _, features), (_, others, _, _) = given["query"].shape, given["key"].shape
    assert features % 8 == 0 and features <= 128 and given["value"].shape == given["key"].shape
    if given["bias"] is not None:
        assert length % 2 == others % 2 == 0 and given["bias"].shape == (1, 2, length, others)


@pytest.mark.parametrize("sharded", [False, pytest.param(True, marks=needs_8_devices)])
@pytest.mark.parametrize("queries, keys, size, options", [CUDNN_CASES[0], CUDNN_CASES[2]])
def test_cudnn_lowers_for_gpus_forward_and_backward(monkeypatch, queries, keys, size, options, sharded):
    monkeypatch.setattr("jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version", lambda: 91200)
    sharding = None
    if sharded:
        mesh = jax.make_mesh((1, 2, 2), partitioning.MESH_AXES, axis_types=(AxisType.Auto,) * 3)
        sharding = NamedSharding(mesh, PartitionSpec("fsdp", None, "tensor"))
    q, k, v, _ = arguments(queries, keys, size, "bfloat16", sharding=sharding)
    masks, bias = cudnn_case(options, keys)
    table = jnp.ones((32, 2))

    def total(q, k, v, table):
        result = attention(q, k, v, bias=bias(table), form="cudnn", **masks)
        assert result.shape == q.shape and result.dtype == q.dtype
        return result.astype(jnp.float32).sum()

    traced = jax.jit(jax.grad(total, argnums=(0, 1, 2, 3))).trace(q, k, v, table)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    name = "__cudnn$fmhaScaleBiasSoftmax" if bias(table) else "__cudnn$fmhaSoftmax"
    assert f"@{name}(" in text and f"@{name}Backward(" in text


TABLE = RelativeBias(jnp.ones((32, 2)), True)
MASK = jnp.ones((1, 1100), bool)
AUTO = [
    ("tpu", 1100, {}, "splash"),
    ("tpu", 1100, {"key_mask": MASK, "causal": True}, "splash"),
    ("tpu", 1000, {}, "dense"),
    ("tpu", 1100, {"bias": TABLE}, "chunked"),
    ("tpu", 1100, {"dropout_rate": 0.1, "dropout_key": 0}, "chunked"),
    ("tpu", 1100, {"dropout_rate": 0.1}, "splash"),
    ("tpu", 1100, {"first_query": 1}, "chunked"),
    ("gpu", 1100, {}, "cudnn"),
    ("gpu", 200, {"bias": TABLE}, "cudnn"),
    ("gpu", 1100, {"bias": TABLE}, "chunked"),
    ("gpu", 200, {"dtype": "float32"}, "dense"),
    ("gpu", 64, {}, "dense"),
    ("gpu, no cuDNN", 1100, {}, "chunked"),
    ("cpu", 1100, {}, "chunked"),
    (None, 1100, {}, "chunked"),
]


@pytest.mark.parametrize("platform, length, options, expected", AUTO)
def test_auto_chooses_by_platform_length_and_what_the_kernels_take(monkeypatch, platform, length, options, expected):
    called = []
    for module, function in ((kernels, "splash"), (kernels, "cudnn"), (attention_module, "_dense")):
        name = function.strip("_")
        monkeypatch.setattr(module, function, lambda q, *_, name=name, **__: called.append(name) or q)
    monkeypatch.setattr(attention_module, "_chunked", lambda q, *_, **__: called.append("chunked") or q)
    monkeypatch.setattr(kernels, "platform_of", lambda x: platform and platform[:3])
    monkeypatch.setattr(kernels, "has_cudnn", lambda: platform == "gpu")
    options = dict(options)
    q, k, v, _ = arguments(length, length, 8, options.pop("dtype", "bfloat16"), batch=1)
    attention(q, k, v, **options)
    assert called == [expected]


AHEAD_OF_TIME = """
import json
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec
from paligax.models.attention import attention
from paligax.batch import LabelBatch
from paligax.training import partitioning, state, step
from paligax.training.partitioning import Partitioner
from tests.training import toy

devices = topologies.get_topology_desc(platform="tpu", topology_name="v5p:2x2x1", chip_config_name="megacore").devices

def figures(lowered):
    compiled = lowered.compile()
    calls = compiled.as_text().count('custom_call_target="tpu_custom_call"')
    return calls, compiled.memory_analysis().temp_size_in_bytes

def alone(form, fsdp, tensor):
    mesh = Partitioner(1, fsdp, tensor).mesh(devices[: fsdp * tensor])
    spec = PartitionSpec(partitioning.BATCH_AXES, None, "tensor")
    x = jax.ShapeDtypeStruct((4, 1764, 16, 112), jnp.bfloat16, sharding=NamedSharding(mesh, spec))
    total = lambda q, k, v: attention(q, k, v, scale=112**-0.5, form=form).astype(jnp.float32).sum()
    return figures(jax.jit(jax.grad(total, argnums=(0, 1, 2))).lower(x, x, x))

def train_step():
    vision = toy.vit(width=1792, depth=2, num_heads=16, patch_size=2, dtype="bfloat16", remat="full")
    model = toy.classifier().clone(vision=vision)
    job = toy.job("labels", model=model, partitioner=Partitioner(1, 2, 2))
    batch = LabelBatch.abstract(batch_size=4, resolution=84, num_classes=toy.CLASSES)
    program = state.prepare(model, job.objective, job.optimizer, job.partitioner, batch, num_tasks=2, devices=devices)
    return step.lower_step(program)  # Compiling it takes minutes.

chips = {"one": (1, 1), "four": (2, 2)}
forms = ("dense", "splash", "auto")
result = {f"{form} {name}": alone(form, *shape) for form in forms for name, shape in chips.items()}
print(json.dumps([result, train_step().as_text().count("tpu_custom_call")]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs the TPU compiler: pip install -e .[plan]")
def test_splash_compiles_for_tpu_v5p_in_a_fraction_of_denses_memory():
    own = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
    command = [sys.executable, "-c", AHEAD_OF_TIME]
    done = subprocess.run(command, env=os.environ | own, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    figures, calls_of_step = json.loads(done.stdout.splitlines()[-1])
    for chips in ("one", "four"):
        (no_calls, dense), (calls, temporaries) = figures[f"dense {chips}"], figures[f"splash {chips}"]
        assert (no_calls, calls) == (0, 3)  # forward; query's gradient; key's and value's
        assert temporaries < 0.25 * dense
        assert figures[f"auto {chips}"] == [calls, temporaries]
    assert calls_of_step >= 4  # forward, forward again because of remat, backward
