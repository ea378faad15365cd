"""The language tower: mT5 (T5 v1.1) encoder and decoder, teacher forced or one cached step at a time."""

from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct

from paligax.models.attention import RelativeBias, check_form
from paligax.models.layers import (
    ACTIVATIONS,
    Attention,
    Dropout,
    Projection,
    RMSNorm,
    check_activation,
    partitioned,
    stack,
)

Array = Any

# d_model, d_ff, layers of each stack, heads, head size (Xue et al. 2021; T5 v1.1)
VARIANTS = {
    "small": (512, 1024, 8, 6, 64),
    "base": (768, 2048, 12, 12, 64),
    "large": (1024, 2816, 24, 16, 64),
    "xl": (2048, 5120, 24, 32, 64),
    "xxl": (4096, 10240, 24, 64, 64),
}
VOCAB_SIZE = 250_112


@struct.dataclass
class Shared:
    """What every layer of a stack is given.

    Attributes:
      bias: the stack's relative position bias.
      states: encoder states [B, S, D] (decoder only, None once the cache holds their keys).
      states_mask: bool[B, S]: in the encoder the keys of self-attention, in the decoder those of cross-attention.
      index: int32 position of the token that a cached step decodes.
    """

    bias: RelativeBias
    states: Array | None = None
    states_mask: Array | None = None
    index: Array | None = None


@struct.dataclass
class Cache:
    """Keys and values of the decoder, with a leading layer axis, and the position of the next token.

    Attributes:
      layers: {"self": (key, value) [layers, B, T, N, K], "cross": (key, value) [layers, B, S, N, K]}.
      states_mask: bool[B, S].
      index: int32 scalar.
    """

    layers: Any
    states_mask: Array
    index: Array


class GatedMLP(nn.Module):
    """Gated linear unit without biases (Shazeer 2020): [B, T, D] → [B, T, D]."""

    width: int
    mlp_dim: int
    dropout: float
    activation: str
    dtype: str

    def setup(self):
        self.wi_0 = Projection((self.mlp_dim,), ("embed", "mlp"), dtype=self.dtype)
        self.wi_1 = Projection((self.mlp_dim,), ("embed", "mlp"), dtype=self.dtype)
        self.wo = Projection((self.width,), ("mlp", "embed"), dtype=self.dtype)
        self.drop = Dropout(self.dropout)

    def __call__(self, x: Array) -> Array:
        return self.wo(self.drop(ACTIVATIONS[self.activation](self.wi_0(x)) * self.wi_1(x)))


class EncoderBlock(nn.Module):
    width: int
    mlp_dim: int
    num_heads: int
    head_dim: int
    dropout: float
    activation: str
    epsilon: float
    dtype: str
    attention_form: str

    def setup(self):
        heads = (self.width, self.num_heads, self.head_dim)
        common = dict(use_bias=False, scale_scores=False, dropout=self.dropout, dtype=self.dtype)
        self.attention_norm = RMSNorm(self.epsilon, self.dtype)
        self.attention = Attention(*heads, form=self.attention_form, **common)
        self.mlp_norm = RMSNorm(self.epsilon, self.dtype)
        self.mlp = GatedMLP(self.width, self.mlp_dim, self.dropout, self.activation, self.dtype)
        self.drop = Dropout(self.dropout)

    def __call__(self, x: Array, per_layer: Any, shared: Shared) -> tuple[Array, Any]:
        y = self.attention_norm(x)
        keys_values, bias = self.attention.keys_values(y), _own_bias(shared, per_layer)
        y = self.attention(y, keys_values, key_mask=shared.states_mask, bias=bias)
        x += self.drop(y)
        return x + self.drop(self.mlp(self.mlp_norm(x))), per_layer


class DecoderBlock(nn.Module):
    width: int
    mlp_dim: int
    num_heads: int
    head_dim: int
    dropout: float
    activation: str
    epsilon: float
    dtype: str
    attention_form: str

    def setup(self):
        heads = (self.width, self.num_heads, self.head_dim)
        common = dict(use_bias=False, scale_scores=False, dropout=self.dropout, dtype=self.dtype)
        common["form"] = self.attention_form
        self.self_attention_norm = RMSNorm(self.epsilon, self.dtype)
        self.self_attention = Attention(*heads, **common)
        self.cross_attention_norm = RMSNorm(self.epsilon, self.dtype)
        self.cross_attention = Attention(*heads, **common)
        self.mlp_norm = RMSNorm(self.epsilon, self.dtype)
        self.mlp = GatedMLP(self.width, self.mlp_dim, self.dropout, self.activation, self.dtype)
        self.drop = Dropout(self.dropout)

    def prefill(self, x: Array, per_layer: Any, shared: Shared) -> tuple[Array, tuple[Array, Array]]:
        """Keys and values of the encoder states, for the cache."""
        return x, self.cross_attention.keys_values(shared.states)

    def __call__(self, x: Array, per_layer: Any, shared: Shared) -> tuple[Array, Any]:
        """Teacher forced where ``per_layer`` holds no cache; else x is one token [B, 1, D] at ``shared.index``."""
        y = self.self_attention_norm(x)
        keys_values, bias = self.self_attention.keys_values(y), _own_bias(shared, per_layer)
        if "self" not in per_layer:
            y = self.self_attention(y, keys_values, causal=True, bias=bias)
            cross = self.cross_attention.keys_values(shared.states)
        else:
            # Write this token's key and value at its place; causality hides the places behind it.
            keys_values = jax.tree.map(
                lambda past, new: jax.lax.dynamic_update_slice_in_dim(past, new.astype(past.dtype), shared.index, 1),
                per_layer["self"],
                keys_values,
            )
            y = self.self_attention(y, keys_values, causal=True, bias=bias, first_query=shared.index)
            cross = per_layer["cross"]
            per_layer = per_layer | {"self": keys_values}
        x += self.drop(y)
        y = self.cross_attention(self.cross_attention_norm(x), cross, key_mask=shared.states_mask)
        x += self.drop(y)
        return x + self.drop(self.mlp(self.mlp_norm(x))), per_layer


def _own_bias(shared: Shared, per_layer: Any) -> RelativeBias:
    """The stack's relative positions, or the layer's where each has a table of its own (umT5)."""
    return shared.bias.replace(table=per_layer["table"]) if "table" in per_layer else shared.bias


class MT5(nn.Module):
    """mT5: RMS norms, gated GELU, relative position bias of one table a stack, untied output head.

    Padding is id 0, which is also the decoder's first input; EOS is 1. Dropout is active where a "dropout" random key
    is given.

    Attributes:
      width: D (d_model).
      mlp_dim: F (d_ff).
      encoder_depth: layers of the encoder.
      decoder_depth: layers of the decoder.
      num_heads: N.
      head_dim: K (d_kv), free of D / N.
      vocab_size: V, rows of embedding and head; may exceed the vocabulary's size.
      num_buckets: rows of each relative position table.
      max_distance: distance from which on all keys share the last bucket.
      bias_per_layer: whether every layer has a relative position table of its own (umT5) or all of a stack share one.
      scale_logits: whether the head's input is multiplied by 1/√D, as where embedding and head were one (T5 1.0).
      dropout: rate (0 in pretraining, 0.1 in fine-tuning).
      activation: of the gate, a name of ``paligax.models.layers.ACTIVATIONS``.
      epsilon: of the norms.
      dtype: of activations; parameters are float32.
      remat: what the backward pass recomputes, see :func:`paligax.models.layers.stack`.
      unroll: layers in one turn of the compiled loop, see there.
      attention_form: how attention is computed, see :func:`paligax.models.attention.attention`.
    """

    width: int
    mlp_dim: int
    encoder_depth: int
    decoder_depth: int
    num_heads: int
    head_dim: int
    vocab_size: int = VOCAB_SIZE
    num_buckets: int = 32
    max_distance: int = 128
    bias_per_layer: bool = False
    scale_logits: bool = False
    dropout: float = 0.0
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    dtype: str = "float32"
    remat: str = "none"
    unroll: int = 1
    attention_form: str = "auto"

    def __post_init__(self):
        check_form(self.attention_form)
        check_activation(self.activation)
        super().__post_init__()

    @classmethod
    def variant(cls, name: str, **overrides: Any) -> Self:
        """``"xxl"`` → mT5-XXL. Raises ValueError for a name that is not in the table."""
        if name not in VARIANTS:
            raise ValueError(f"mT5 variant {name!r} is not known; known: {', '.join(VARIANTS)}.")
        width, mlp_dim, depth, num_heads, head_dim = VARIANTS[name]
        fields = dict(width=width, mlp_dim=mlp_dim, encoder_depth=depth, decoder_depth=depth)
        return cls(**(fields | dict(num_heads=num_heads, head_dim=head_dim) | overrides))

    def setup(self):
        table = (self.vocab_size, self.width)
        embed_init = partitioned(nn.initializers.normal(1.0), ("vocab", "embed"))
        self.token_embedder = self.param("token_embedder", embed_init, table)
        relpos_init = nn.initializers.variance_scaling(
            1.0, "fan_avg", "uniform", in_axis=-1, out_axis=-2, batch_axis=(0,) if self.bias_per_layer else ()
        )
        relpos, axes = (self.num_buckets, self.num_heads), ("relpos", "heads")
        for name, depth in (("encoder_relpos", self.encoder_depth), ("decoder_relpos", self.decoder_depth)):
            init = partitioned(relpos_init, ("layers", *axes) if self.bias_per_layer else axes)
            setattr(self, name, self.param(name, init, (depth, *relpos) if self.bias_per_layer else relpos))
        block = (self.width, self.mlp_dim, self.num_heads, self.head_dim, self.dropout)
        block += (self.activation, self.epsilon, self.dtype, self.attention_form)
        self.encoder = stack(EncoderBlock, self.encoder_depth, self.remat, self.unroll)(*block)
        self.encoder_norm = RMSNorm(self.epsilon, self.dtype)
        self.decoder = stack(DecoderBlock, self.decoder_depth, self.remat, self.unroll)(*block)
        self.decoder_norm = RMSNorm(self.epsilon, self.dtype)
        self.logits = Projection((self.vocab_size,), ("embed", "vocab"), dtype=self.dtype)
        self.drop = Dropout(self.dropout)

    def embed(self, ids: Array) -> Array:
        """int32[B, L] → [B, L, D]."""
        return jnp.take(self.token_embedder, ids, axis=0).astype(self.dtype)

    def encode_embedded(self, x: Array, mask: Array) -> Array:
        """Embeddings [B, S, D] of whatever kind and bool[B, S] of which are there → encoder states [B, S, D]."""
        bias, per_layer = self._relative(self.encoder_relpos, bidirectional=True)
        x, _ = self.encoder(self.drop(x), per_layer, Shared(bias, states_mask=mask))
        return self.drop(self.encoder_norm(x))

    def encode(self, inputs: Array) -> tuple[Array, Array]:
        """int32[B, L] → encoder states [B, L, D] and their mask bool[B, L]."""
        mask = inputs > 0
        return self.encode_embedded(self.embed(inputs), mask), mask

    def _relative(self, table: Array, bidirectional: bool) -> tuple[RelativeBias, dict[str, Array]]:
        """What all layers of a stack share of its relative positions, and what each has for itself."""
        shared, own = (None, {"table": table}) if self.bias_per_layer else (table, {})
        return RelativeBias(shared, bidirectional, self.max_distance), own

    def _head(self, x: Array) -> Array:
        x = self.drop(self.decoder_norm(x))
        return self.logits(x * self.width**-0.5 if self.scale_logits else x).astype(jnp.float32)

    def decode(self, targets: Array, states: Array, states_mask: Array) -> Array:
        """Teacher forcing: logits float32[B, T, V] of int32[B, T] targets, each given the ones before it."""
        shifted = jnp.pad(targets[:, :-1], ((0, 0), (1, 0)))
        bias, per_layer = self._relative(self.decoder_relpos, bidirectional=False)
        shared = Shared(bias, states=states, states_mask=states_mask)
        x, _ = self.decoder(self.drop(self.embed(shifted)), per_layer, shared)
        return self._head(x)

    def start_decoding(self, states: Array, states_mask: Array, max_length: int) -> Cache:
        """The cache before the first token, for at most ``max_length`` tokens."""
        batch = states.shape[0]
        unused = jnp.zeros((batch, 1, self.width), self.dtype)
        bias, per_layer = self._relative(self.decoder_relpos, bidirectional=False)
        _, cross = self.decoder.prefill(unused, per_layer, Shared(bias, states=states))
        shape = (self.decoder_depth, batch, max_length, self.num_heads, self.head_dim)
        empty = (jnp.zeros(shape, self.dtype), jnp.zeros(shape, self.dtype))
        return Cache({"self": empty, "cross": cross}, states_mask, jnp.zeros((), jnp.int32))

    def decode_step(self, tokens: Array, cache: Cache) -> tuple[Array, Cache]:
        """The tokens int32[B] decoded last (0 at first) → logits float32[B, V] of the next ones, and the new cache."""
        bias, per_layer = self._relative(self.decoder_relpos, bidirectional=False)
        shared = Shared(bias, states_mask=cache.states_mask, index=cache.index)
        x, layers = self.decoder(self.embed(tokens[:, None]), cache.layers | per_layer, shared)
        layers = {name: layers[name] for name in cache.layers}
        return self._head(x)[:, 0], cache.replace(layers=layers, index=cache.index + 1)

    def __call__(self, inputs: Array, targets: Array) -> Array:
        """int32[B, L], int32[B, T] → logits float32[B, T, V]."""
        return self.decode(targets, *self.encode(inputs))
