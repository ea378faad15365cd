import dataclasses
import types

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from paligax import models
from paligax.training import flops
from paligax.training.partitioning import Partitioner
from paligax.training.treatments import OTHERWISE, Frozen, Trained
from tests.training import toy

X, W = jnp.zeros((4, 8)), jnp.zeros((8, 16))
PRODUCT = 2 * 4 * 8 * 16


def count(function, *args):
    return flops.count(jax.make_jaxpr(function)(*args).jaxpr)


def test_matrix_products_batched_ones_and_convolutions():
    assert count(lambda x, w: x @ w, X, W) == PRODUCT
    assert count(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), jnp.zeros((5, *X.shape)), jnp.zeros((5, *W.shape))) == (
        5 * PRODUCT
    )
    image, kernel = jnp.zeros((2, 16, 16, 3)), jnp.zeros((4, 4, 3, 32))

    def convolve(image, kernel):
        return jax.lax.conv_general_dilated(image, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert count(convolve, image, kernel) == 2 * (2 * 4 * 4 * 32) * (4 * 4 * 3)


def test_loops_and_calls_are_multiplied_and_entered():
    def scanned(x, w):
        def body(x, _):
            return jax.checkpoint(jax.jit(lambda x: jnp.tanh(x @ w @ w.T)))(x), None

        return jax.lax.scan(body, x, None, length=7)[0]

    assert count(scanned, X, W) == 7 * 2 * PRODUCT
    assert count(lambda x, w: jax.lax.cond(x[0, 0] > 0, lambda: x @ w, lambda: (x @ w) + (x @ w)), X, W) == 2 * PRODUCT


def test_backward_is_twice_forward_and_recomputation_is_seen():
    def loss(w, f):
        return jax.lax.scan(lambda x, w: (f(x, w), None), X, w)[0].sum()

    w = jnp.zeros((3, 8, 8))
    forward = 3 * 2 * 4 * 8 * 8

    def layer(x, w):
        return jnp.tanh(x @ w)

    assert count(jax.grad(lambda w: loss(w, layer)), w) == 3 * forward
    assert count(jax.grad(lambda w: loss(w, jax.checkpoint(layer))), w) == 4 * forward


def test_model_flops_do_not_change_with_rematerialisation_or_microbatches():
    remat = toy.pali(vision=toy.vit(remat="full"), remat="dots")
    plain = flops.model_flops(toy.program(toy.trainer()))
    assert flops.model_flops(toy.program(toy.trainer(model=remat))) == plain
    assert flops.model_flops(toy.program(toy.trainer(num_microbatches=4))) == plain


def test_freezing_saves_the_backward_pass():
    freeze = (("vision/.*", Frozen()), (OTHERWISE, Trained()))
    all_trained = flops.model_flops(toy.program(toy.trainer()))
    frozen = flops.model_flops(toy.program(toy.trainer(treatments=freeze)))
    program = toy.program(toy.trainer())
    vision = models.build(models.describe(program.module.vision))
    image = jnp.zeros((8, toy.RESOLUTION, toy.RESOLUTION, 3))
    variables = jax.eval_shape(lambda: models.unbox(vision.init(jax.random.key(0), image)))
    forward = count(vision.apply, variables, image)
    patches = 8 * (toy.RESOLUTION // 8) ** 2
    embedding, projection = 2 * patches * (8 * 8 * 3) * 16, 2 * patches * 16 * 16
    # Backward is twice forward, but the pixels need no gradient; the projection's input does now.
    assert all_trained - frozen == 2 * forward - embedding + projection


def test_without_remat_leaves_the_rest():
    module = toy.pali(vision=toy.vit(remat="full"), remat="full")
    kept = {"attention_form": "dense"}  # chunks of queries are computed twice, too
    assert flops.without_remat(module) == toy.pali(vision=toy.vit(**kept), **kept)


def test_peaks_are_known_by_device_kind():
    assert flops.peak_flops(types.SimpleNamespace(device_kind="TPU v5 lite")) == 197e12
    assert flops.peak_flops(types.SimpleNamespace(device_kind="cpu")) is None
    assert set(flops.DEVICE_KINDS.values()) == set(flops.CHIPS)
    assert all(dataclasses.astuple(chip) > (0, 0, 0) for chip in flops.CHIPS.values())


def test_shapes_inside_shard_map_are_those_of_one_device():
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")
    mesh = Partitioner(data=8).mesh(jax.devices()[:8])
    spec, whole = PartitionSpec("data"), PartitionSpec()
    mapped = jax.shard_map(lambda a, w: a @ w, mesh=mesh, in_specs=(spec, whole), out_specs=spec)
    assert count(mapped, jnp.zeros((32, 8)), W) == 8 * PRODUCT
