"""SigLIP: an image tower and a text tower whose embeddings say how well a picture and a text fit (Zhai et al. 2023)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from paligax.models.layers import LayerNorm, Projection, check_activation, partitioned, stack
from paligax.models.vit import AttentionPool, Block, ViT, normalise

Array = Any


class TextTower(nn.Module):
    """Text transformer without a mask; the last position's output is projected.

    Attributes:
      width: D.
      depth: layers.
      mlp_dim: F.
      num_heads: N.
      vocab_size: rows of the embedding.
      max_length: L, rows of the learned positions; shorter texts use the first ones.
      embedding_dim: E of the projected output.
      activation: a name of ``paligax.models.layers.ACTIVATIONS``.
      epsilon: of the norms.
      dtype: of activations; parameters are float32.
      remat: see :func:`paligax.models.layers.stack`.
      unroll: see there.
    """

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    vocab_size: int
    max_length: int
    embedding_dim: int
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    dtype: str = "float32"
    remat: str = "none"
    unroll: int = 1

    def __post_init__(self):
        check_activation(self.activation)
        super().__post_init__()

    @nn.compact
    def __call__(self, text: Array) -> Array:
        """int32[B, L] → [B, E]. All positions are attended to, padding too: so SigLIP was trained."""
        if text.shape[1] > self.max_length:
            raise ValueError(f"The text has {text.shape[1]} tokens; this tower takes {self.max_length}.")
        embed_init = partitioned(nn.initializers.normal(self.width**-0.5), ("vocab", "embed"))
        table = self.param("token_embedder", embed_init, (self.vocab_size, self.width))
        pos_init = partitioned(nn.initializers.normal(self.width**-0.5), (None, "pos", "embed"))
        positions = self.param("pos_embedding", pos_init, (1, self.max_length, self.width))
        x = (jnp.take(table, text, axis=0) + positions[:, : text.shape[1]]).astype(self.dtype)
        blocks = stack(Block, self.depth, self.remat, self.unroll)
        block = (self.width, self.mlp_dim, self.num_heads, self.activation, self.epsilon, self.dtype)
        x, _ = blocks(*block, name="blocks")(x, None, None)
        x = LayerNorm(self.epsilon, self.dtype, name="norm")(x)
        head = Projection((self.embedding_dim,), ("embed", "joined"), use_bias=True, dtype=self.dtype, name="head")
        return head(x[:, -1])


class SigLIP(nn.Module):
    """Scores of every image with every text.

    Attributes:
      vision: the image tower; its pool has the same activation, norms and heads.
      text: the text tower.
    """

    vision: ViT
    text: TextTower

    def setup(self):
        vision = self.vision
        pool = (vision.mlp_dim, vision.num_heads, vision.activation, vision.epsilon, vision.dtype)
        self.pool = AttentionPool(*pool)
        scalar = partitioned(nn.initializers.zeros, ())
        self.logit_scale = self.param("logit_scale", scalar, ())
        self.logit_bias = self.param("logit_bias", scalar, ())

    def encode_image(self, image: Array) -> Array:
        """float[B, H, W, 3] in [-1, 1] or uint8 → unit vectors float32[B, E]."""
        return _unit(self.pool(self.vision(normalise(image, self.vision.dtype))))

    def encode_text(self, text: Array) -> Array:
        """int32[B, L], padded as the checkpoint's tokenizer does → unit vectors float32[B, E]."""
        return _unit(self.text(text))

    def __call__(self, image: Array, text: Array) -> Array:
        """Images [B, H, W, 3] and texts int32[C, L] → logits float32[B, C]; their sigmoid is the chance of a pair."""
        products = self.encode_image(image) @ self.encode_text(text).T
        return products * jnp.exp(self.logit_scale) + self.logit_bias


def _unit(x: Array) -> Array:
    x = x.astype(jnp.float32)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
