"""What both towers are made of: projections and norms with logical axes, attention, MLPs, the scanned stack."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from paligax.models.attention import RelativeBias, attention
from paligax.models.placement import on_rows

Array = Any
Axes = tuple[str | None, ...]

REMAT_POLICIES = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
}

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": functools.partial(nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "silu": nn.silu,
    "relu": nn.relu,
}


def check_activation(name: str) -> None:
    """Raises ValueError with the known names where there is no such activation."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r} is not known; known: {', '.join(ACTIVATIONS)}.")


def partitioned(init: Callable, axes: Axes) -> Callable:
    """An initializer whose parameter carries the names of its logical axes."""
    return nn.with_logical_partitioning(init, axes)


def fan_in(num_inputs: int, scale: float = 1.0) -> Callable:
    """Truncated normal of variance scale / fan-in, the fan-in being the product of the first ``num_inputs`` axes."""

    def init(key, shape, dtype=jnp.float32):
        in_axis = tuple(range(num_inputs))
        out_axis = tuple(range(num_inputs, len(shape)))
        return nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal", in_axis, out_axis)(
            key, shape, dtype
        )

    return init


class Projection(nn.Module):
    """A linear map from the last ``num_inputs`` axes to ``features``, e.g. [B, T, D] → [B, T, N, K].

    Attributes:
      features: sizes of the output axes.
      axes: logical names of the kernel's axes, inputs first.
      num_inputs: how many of the last axes are contracted.
      use_bias: whether an offset is added.
      kernel_init: initializer of the kernel; fan-in truncated normal by default.
      bias_init: initializer of the offset.
      dtype: of the computation; parameters are float32.
    """

    features: tuple[int, ...]
    axes: Axes
    num_inputs: int = 1
    use_bias: bool = False
    kernel_init: Callable | None = None
    bias_init: Callable = nn.initializers.zeros
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        inputs = x.shape[-self.num_inputs :]
        init = self.kernel_init or fan_in(self.num_inputs)
        kernel = self.param("kernel", partitioned(init, self.axes), inputs + self.features)
        # As a product of two matrices: on CPUs XLA's products of higher rank, and above all their gradients, take two
        # to three times as long; elsewhere these reshapes are free.
        rows, size = x.shape[: x.ndim - self.num_inputs], math.prod(inputs)
        y = x.astype(self.dtype).reshape(-1, size) @ kernel.astype(self.dtype).reshape(size, -1)
        y = on_rows(y.reshape(rows + self.features), self.axes[self.num_inputs :])
        if self.use_bias:
            bias_axes = self.axes[self.num_inputs :]
            bias = self.param("bias", partitioned(self.bias_init, bias_axes), self.features)
            y += bias.astype(self.dtype)
        return y


class LayerNorm(nn.Module):
    """Mean and variance normalisation with scale and bias, computed in float32 (ViT)."""

    epsilon: float = 1e-6
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", partitioned(nn.initializers.ones, ("embed",)), (x.shape[-1],))
        bias = self.param("bias", partitioned(nn.initializers.zeros, ("embed",)), (x.shape[-1],))
        x = x.astype(jnp.float32)
        mean = jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
        return ((x - mean) * jax.lax.rsqrt(variance + self.epsilon) * scale + bias).astype(self.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square normalisation without bias, computed in float32 (T5)."""

    epsilon: float = 1e-6
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", partitioned(nn.initializers.ones, ("embed",)), (x.shape[-1],))
        x = x.astype(jnp.float32)
        x *= jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.epsilon)
        return (x * scale).astype(self.dtype)


class Dropout(nn.Module):
    """Dropout that is active exactly where a ``dropout`` random key is given."""

    rate: float
    broadcast_length: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if not self.rate or not self.has_rng("dropout"):
            return x
        shape = x.shape[:-2] + (1, x.shape[-1]) if self.broadcast_length else x.shape
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1.0 - self.rate, shape)
        return jnp.where(keep, x / (1.0 - self.rate), jnp.zeros((), x.dtype))


class Attention(nn.Module):
    """Multi-head attention: projections around :func:`paligax.models.attention.attention`.

    Attributes:
      width: D.
      num_heads: N.
      head_dim: K.
      use_bias: whether the projections add an offset (ViT: yes, T5: no).
      scale_scores: True multiplies scores with 1/√K (ViT); False folds 1/√K into the query's initialisation (T5).
      dropout: rate on the attention weights.
      form: how it is computed, see there.
    """

    width: int
    num_heads: int
    head_dim: int
    use_bias: bool
    scale_scores: bool
    dropout: float = 0.0
    dtype: str = "float32"
    form: str = "auto"

    def setup(self):
        shape = (self.num_heads, self.head_dim)
        common = dict(use_bias=self.use_bias, dtype=self.dtype)
        axes = ("embed", "heads", "kv")
        query_init = None if self.scale_scores else fan_in(1, 1.0 / self.head_dim)
        self.query = Projection(shape, axes, kernel_init=query_init, **common)
        self.key = Projection(shape, axes, **common)
        self.value = Projection(shape, axes, **common)
        self.out = Projection((self.width,), ("heads", "kv", "embed"), 2, **common)

    def keys_values(self, states: Array) -> tuple[Array, Array]:
        """Keys and values [B, S, N, K] of states [B, S, D]."""
        return self.key(states), self.value(states)

    def __call__(
        self,
        x: Array,
        keys_values: tuple[Array, Array],
        key_mask: Array | None = None,
        causal: bool = False,
        bias: RelativeBias | None = None,
        first_query: Array | int = 0,
    ) -> Array:
        """[B, T, D] attending to keys and values [B, S, N, K] → [B, T, D]."""
        key, value = keys_values
        y = attention(
            self.query(x),
            key,
            value,
            scale=self.head_dim**-0.5 if self.scale_scores else 1.0,
            key_mask=key_mask,
            causal=causal,
            bias=bias,
            first_query=first_query,
            dropout_rate=self.dropout,
            dropout_key=self.make_rng("dropout") if self.dropout and self.has_rng("dropout") else None,
            # What initialisation computes is thrown away, and its one row isn't on the mesh that a kernel must know.
            form="dense" if self.is_initializing() else self.form,
        )
        return self.out(y)


def stack(block: type[nn.Module], depth: int, remat: str = "none", unroll: int = 1) -> Callable[..., nn.Module]:
    """``depth`` copies of a block as one scanned, rematerialised module: the one place where either is done.

    The block's ``__call__(x, per_layer, shared) -> (x, per_layer)`` gets the running activations, its own slice of a
    pytree with a leading layer axis (or None), and a pytree that all layers share (or None). A block may have a method
    ``prefill`` of the same signature, which is lifted too.

    Args:
      block: a Linen module class.
      depth: number of layers.
      remat: "none" keeps all activations, "full" recomputes a layer in the backward pass, "dots" keeps matmul outputs.
      unroll: layers in one turn of the compiled loop. From ``depth`` on there is no loop: longer to compile, and on a
        CPU about twice as fast, because XLA runs a loop's body on one core.

    Returns:
      A module class: its parameters have a leading axis named "layers".
    """
    if remat not in REMAT_POLICIES:
        raise ValueError(f"remat={remat!r} is not known; known: {', '.join(REMAT_POLICIES)}.")
    methods = ["__call__"] + (["prefill"] if hasattr(block, "prefill") else [])
    if remat != "none":
        block = nn.remat(block, prevent_cse=False, policy=REMAT_POLICIES[remat], methods=methods)
    return nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(0, nn.broadcast),
        out_axes=0,
        length=depth,
        unroll=min(unroll, depth),
        metadata_params={nn.PARTITION_NAME: "layers"},
        methods=methods,
    )
