"""PaLI: every token of the ViT, projected and prepended to the embedded text, through mT5 (PaLI section 3.1)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from paligax.models.layers import Projection
from paligax.models.mt5 import MT5, Cache
from paligax.models.vit import ViT, normalise

Array = Any


class PaLI(nn.Module):
    """Image and text in, text out.

    The encoder sees one flat sequence, image tokens first; relative positions run through it, and the projection starts
    from the usual fan-in normal (the paper leaves both open). Rows without an image have their visual tokens masked.

    Attributes:
      vision: the image tower.
      language: the language tower.
    """

    vision: ViT
    language: MT5

    def setup(self):
        # Input axis "joined": of the image tower's width, not sharded like the language tower's "embed".
        self.projection = Projection(
            (self.language.width,), ("joined", "embed"), use_bias=True, dtype=self.language.dtype
        )

    def encode(self, image: Array, inputs: Array, image_mask: Array | None = None) -> tuple[Array, Array]:
        """Encoder states of image and text.

        Args:
          image: uint8[B, H, W, 3].
          inputs: int32[B, L], padded with 0.
          image_mask: bool[B], False where there is no image; None where all rows have one.

        Returns:
          states [B, P + L, D] and their mask bool[B, P + L].
        """
        tokens = self.projection(self.vision(normalise(image, self.vision.dtype)))
        text = self.language.embed(inputs)
        visual_mask = jnp.ones(tokens.shape[:2], bool)
        if image_mask is not None:
            visual_mask &= image_mask[:, None].astype(bool)
        mask = jnp.concatenate([visual_mask, inputs > 0], axis=1)
        embedded = jnp.concatenate([tokens.astype(text.dtype), text], axis=1)
        return self.language.encode_embedded(embedded, mask), mask

    def decode(self, targets: Array, states: Array, states_mask: Array) -> Array:
        """See :meth:`MT5.decode`."""
        return self.language.decode(targets, states, states_mask)

    def start_decoding(self, states: Array, states_mask: Array, max_length: int) -> Cache:
        """See :meth:`MT5.start_decoding`."""
        return self.language.start_decoding(states, states_mask, max_length)

    def decode_step(self, tokens: Array, cache: Cache) -> tuple[Array, Cache]:
        """See :meth:`MT5.decode_step`."""
        return self.language.decode_step(tokens, cache)

    def __call__(self, image: Array, inputs: Array, targets: Array, image_mask: Array | None = None) -> Array:
        """Teacher forcing: logits float32[B, T, V] of int32[B, T] targets; see :meth:`encode` for the rest."""
        states, mask = self.encode(image, inputs, image_mask)
        return self.language.decode(targets, states, mask)
