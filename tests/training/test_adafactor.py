import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from paligax.training.adafactor import is_factored, moment_axes, scale_by_adafactor

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def run(transformation, params, grads):
    """Parameters after minus 0.01 · update for each of the gradients."""

    @jax.jit
    def step(params, state, grads):
        updates, state = transformation.update(grads, state, params)
        return jax.tree.map(lambda p, u: p - 0.01 * u, params, updates), state

    state = jax.jit(transformation.init)(params)
    for grad in grads:
        params, state = step(params, state, grad)
    return params, state


def optax_adafactor(**overrides):
    """As ours: the sign and the learning rate are the caller's."""
    return optax.chain(optax.adafactor(1.0, min_dim_size_to_factor=128, **overrides), optax.scale(-1.0))


@pytest.mark.parametrize("scaled", [True, False])
def test_two_dimensional_parameters_are_optaxs(scaled):
    axes = {"factored": ("embed", "mlp"), "other": ("vocab", "embed"), "small": ("embed", "mlp"), "bias": ("mlp",)}
    params = {"factored": draw(128, 192), "other": draw(256, 130), "small": draw(127, 300), "bias": draw(33)}
    grads = [jax.tree.map(lambda p: draw(*p.shape) * 1e-2, params) for _ in range(4)]
    ours, _ = run(scale_by_adafactor(axes, multiply_by_parameter_scale=scaled), params, grads)
    theirs, _ = run(optax_adafactor(multiply_by_parameter_scale=scaled), params, grads)
    for name in params:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-5, atol=1e-7, err_msg=name)


def test_momentum_is_optaxs():
    params = {"w": draw(128, 128)}
    grads = [{"w": draw(128, 128)} for _ in range(3)]
    ours, state = run(scale_by_adafactor({"w": ("embed", "mlp")}, momentum=0.9), params, grads)
    theirs, _ = run(optax_adafactor(momentum=0.9), params, grads)
    np.testing.assert_allclose(ours["w"], theirs["w"], rtol=2e-5, atol=1e-7)
    half = scale_by_adafactor({"w": ("embed", "mlp")}, momentum=0.9, momentum_dtype="bfloat16")
    assert half.init(params).moments["w"]["momentum"].dtype == jnp.bfloat16


def test_layers_of_a_stack_are_separate_parameters():
    # One layer has large gradients and parameters, one has small ones: scale and clipping must not mix them.
    sizes = [1e-3, 1.0, 50.0]
    kernels = [draw(128, 4, 40) * s for s in sizes]
    biases = [draw(4, 40) * s for s in sizes]
    grads = [[{"w": draw(128, 4, 40) * s, "b": draw(4, 40) * s} for s in sizes] for _ in range(3)]
    axes = {"w": ("embed", "heads", "kv"), "b": ("heads", "kv")}
    stacked = {name: ("layers", *names) for name, names in axes.items()}
    params = {"w": np.stack(kernels), "b": np.stack(biases)}
    together, state = run(
        scale_by_adafactor(stacked), params, [jax.tree.map(lambda *g: np.stack(g), *step) for step in grads]
    )
    assert state.moments["w"]["row"].shape == (3, 128) and state.moments["w"]["column"].shape == (3, 4, 40)
    for i in range(3):
        alone, _ = run(scale_by_adafactor(axes), {"w": kernels[i], "b": biases[i]}, [step[i] for step in grads])
        np.testing.assert_allclose(together["w"][i], alone["w"], rtol=1e-6)
        np.testing.assert_allclose(together["b"][i], alone["b"], rtol=1e-6)


def test_axes_and_not_sizes_decide_what_is_factored():
    assert is_factored(("layers", "embed", "heads", "kv"), (2, 128, 2, 64), 128)
    assert not is_factored(("layers", "embed", "heads", "kv"), (200, 128, 2, 63), 128)
    assert not is_factored(("layers", "embed"), (256, 256), 128), "never over layers"
    assert not is_factored(("heads", "kv"), (256, 256), 128), "no row"


def test_moment_axes_name_the_moments_dimensions():
    assert moment_axes(("layers", "embed", "heads", "kv"), (2, 256, 8, 32), 128, False) == {
        "row": ("layers", "embed"),
        "column": ("layers", "heads", "kv"),
    }
    assert moment_axes(("embed",), (256,), 128, True) == {"full": ("embed",), "momentum": ("embed",)}


def test_the_decay_is_capped():
    params, grads = {"b": draw(5)}, [{"b": np.ones(5, np.float32)}] * 3 + [{"b": np.zeros(5, np.float32)}]
    _, state = run(scale_by_adafactor({"b": ("mlp",)}, max_decay=0.5), params, grads)
    np.testing.assert_allclose(state.moments["b"]["full"], 0.5, rtol=1e-5)


def test_wrong_number_of_axes_is_refused():
    with pytest.raises(ValueError, match="2 parameters and axes of 1"):
        scale_by_adafactor({"a": ("mlp",)}).init({"a": draw(2), "b": draw(2)})
