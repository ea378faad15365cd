"""The image tower: a plain ViT as in big_vision, and the attention pool that classification puts on it."""

from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from paligax.models.attention import check_form
from paligax.models.layers import (
    ACTIVATIONS,
    Attention,
    LayerNorm,
    Projection,
    check_activation,
    fan_in,
    partitioned,
    stack,
)

Array = Any

# width, depth, MLP width, heads (Zhai et al. 2022, table 2; PaLI section 3.1 for e)
VARIANTS = {
    "S": (384, 12, 1536, 6),
    "B": (768, 12, 3072, 12),
    "L": (1024, 24, 4096, 16),
    "So400m": (1152, 27, 4304, 16),
    "g": (1408, 40, 6144, 16),
    "G": (1664, 48, 8192, 16),
    "e": (1792, 56, 15360, 16),
}
POSITION_INITS = ("normal", "sincos2d")


class MLP(nn.Module):
    """Two biased layers around an activation: [B, P, D] → [B, P, D]."""

    width: int
    mlp_dim: int
    activation: str = "gelu_tanh"
    dtype: str = "float32"

    def setup(self):
        self.wi = Projection((self.mlp_dim,), ("embed", "mlp"), use_bias=True, dtype=self.dtype)
        self.wo = Projection((self.width,), ("mlp", "embed"), use_bias=True, dtype=self.dtype)

    def __call__(self, x: Array) -> Array:
        return self.wo(ACTIVATIONS[self.activation](self.wi(x)))


class Block(nn.Module):
    """Pre-norm transformer block with biases."""

    width: int
    mlp_dim: int
    num_heads: int
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    dtype: str = "float32"
    attention_form: str = "auto"

    def setup(self):
        heads = (self.width, self.num_heads, self.width // self.num_heads)
        common = dict(dtype=self.dtype, form=self.attention_form)
        self.attention_norm = LayerNorm(self.epsilon, self.dtype)
        self.attention = Attention(*heads, use_bias=True, scale_scores=True, **common)
        self.mlp_norm = LayerNorm(self.epsilon, self.dtype)
        self.mlp = MLP(self.width, self.mlp_dim, self.activation, self.dtype)

    def __call__(self, x: Array, per_layer: None, shared: None) -> tuple[Array, None]:
        y = self.attention_norm(x)
        x += self.attention(y, self.attention.keys_values(y))
        return x + self.mlp(self.mlp_norm(x)), per_layer


class ViT(nn.Module):
    """Vision transformer without pooling: every patch gives one token.

    Patch embedding with bias, learned positions added before the blocks, a final norm (PaLI section 3.1; big_vision
    models/vit.py).

    Attributes:
      width: D.
      depth: number of blocks.
      mlp_dim: F.
      num_heads: N; the head size is D / N.
      patch_size: pixels of a patch's side.
      dtype: of activations; parameters are float32.
      remat: what the backward pass recomputes, see :func:`paligax.models.layers.stack`.
      unroll: layers in one turn of the compiled loop, see there.
      position_init: what the learned positions start from: "normal" (deviation 1/√D, as in big_vision) or "sincos2d",
        whose norm is √(D/2): a short training on little data keeps places apart, and they resample smoothly.
      attention_form: how attention is computed, see :func:`paligax.models.attention.attention`.
      activation: of the MLPs, a name of ``paligax.models.layers.ACTIVATIONS``.
      epsilon: of the norms.
      class_token: whether a learned token stands before the patches' (foreign ViTs; PaLI has none). It has no position:
        where others add one, it is part of the token here, as in big_vision.
    """

    width: int
    depth: int
    mlp_dim: int
    num_heads: int
    patch_size: int
    dtype: str = "float32"
    remat: str = "none"
    unroll: int = 1
    position_init: str = "normal"
    attention_form: str = "auto"
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    class_token: bool = False

    @classmethod
    def variant(cls, name: str, **overrides: Any) -> Self:
        """``"e/14"`` → ViT-e with 14 px patches. Raises ValueError for a name that is not in the table."""
        size, _, patch = name.partition("/")
        if size not in VARIANTS or not patch.isdigit():
            raise ValueError(
                f"ViT variant {name!r} is not known; a size of {', '.join(VARIANTS)}, then /PATCH: 'G/14'."
            )
        width, depth, mlp_dim, num_heads = VARIANTS[size]
        fields = dict(width=width, depth=depth, mlp_dim=mlp_dim, num_heads=num_heads, patch_size=int(patch))
        return cls(**(fields | overrides))

    def __post_init__(self):
        if isinstance(self.width, int) and self.width % self.num_heads:
            raise ValueError(f"ViT width {self.width} is not a multiple of num_heads {self.num_heads}.")
        if self.position_init not in POSITION_INITS:
            raise ValueError(f"position_init={self.position_init!r}: expected one of {', '.join(POSITION_INITS)}.")
        check_form(self.attention_form)
        check_activation(self.activation)
        super().__post_init__()

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """float[B, H, W, 3] in [-1, 1] → tokens [B, P, D]; rows first, pixels beyond whole patches are dropped.

        uint8 pixels are brought to [-1, 1]. With a class token [B, 1 + P, D], that one first.
        """
        image = normalise(image, self.dtype)
        size = self.patch_size
        batch, rows, columns = image.shape[0], image.shape[1] // size, image.shape[2] // size
        if not rows or not columns:
            raise ValueError(f"Image {image.shape[1]}×{image.shape[2]} is smaller than one patch of {size}×{size} px.")
        # A VALID convolution with stride = patch is a matrix product over whole patches.
        patches = image[:, : rows * size, : columns * size].reshape(batch, rows, size, columns, size, 3)
        patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * columns, size, size, 3)
        x = Projection(
            (self.width,),
            (None, None, "patch", "embed"),
            num_inputs=3,
            use_bias=True,
            kernel_init=fan_in(3),
            dtype=self.dtype,
            name="embedding",
        )(patches)

        def sines(key: Array, shape: tuple[int, ...]) -> Array:
            return sincos2d(rows, columns, shape[-1])[None]

        start = sines if self.position_init == "sincos2d" else nn.initializers.normal(self.width**-0.5)
        positions = self.param(
            "pos_embedding", partitioned(start, (None, "pos", "embed")), (1, rows * columns, self.width)
        )
        x += positions.astype(self.dtype)
        if self.class_token:
            zeros = partitioned(nn.initializers.zeros, (None, None, "embed"))
            token = self.param("class_token", zeros, (1, 1, self.width)).astype(self.dtype)
            x = jnp.concatenate([jnp.broadcast_to(token, (batch, 1, self.width)), x], axis=1)
        blocks = stack(Block, self.depth, self.remat, self.unroll)
        block = (self.width, self.mlp_dim, self.num_heads, self.activation, self.epsilon)
        x, _ = blocks(*block, self.dtype, self.attention_form, name="blocks")(x, None, None)
        return LayerNorm(self.epsilon, self.dtype, name="norm")(x)


class AttentionPool(nn.Module):
    """One learned query attends to all tokens ("MAP head"): [B, P, D] → [B, D] (Zhai et al. 2022, section 3.1)."""

    mlp_dim: int
    num_heads: int
    activation: str = "gelu_tanh"
    epsilon: float = 1e-6
    dtype: str = "float32"

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        batch, _, width = tokens.shape
        probe_init = partitioned(nn.initializers.xavier_uniform(), (None, None, "embed"))
        probe = self.param("probe", probe_init, (1, 1, width)).astype(self.dtype)
        probe = jnp.broadcast_to(probe, (batch, 1, width))
        attend = Attention(
            width,
            self.num_heads,
            width // self.num_heads,
            use_bias=True,
            scale_scores=True,
            dtype=self.dtype,
            name="attention",
        )
        x = attend(probe, attend.keys_values(tokens))
        normed = LayerNorm(self.epsilon, self.dtype, name="norm")(x)
        x += MLP(width, self.mlp_dim, self.activation, self.dtype, name="mlp")(normed)
        return x[:, 0]


class Classifier(nn.Module):
    """ViT + attention pool + linear head, for classification pretraining (PaLI section 3.1).

    Heads start at zero weights and at ``head_bias``, so that the first steps aren't spent on learning that most labels
    are absent (big_vision's ``init_head_bias``).

    Where labels say what stands *where*, a second head classifies every region of a square grid from its tokens, with
    one set of weights: small data sets teach a ViT places this way long before a pooled head alone would.

    Attributes:
      vision: the ViT that is kept afterwards.
      num_classes: number of labels of the whole image.
      num_region_classes: number of labels of each region; 0 for none.
      grid: regions along each side; divides the number of patches along it.
      head_bias: every logit at the start.
    """

    vision: ViT
    num_classes: int
    num_region_classes: int = 0
    grid: int = 1
    head_bias: float = -5.0

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """uint8[B, H, W, 3] → logits float32[B, C]: the image's labels, then each region's, rows first."""
        vision = self.vision
        tokens = vision(normalise(image, vision.dtype))
        pool = (vision.mlp_dim, vision.num_heads, vision.activation, vision.epsilon, vision.dtype)
        x = AttentionPool(*pool, name="pool")(tokens)
        at_start = dict(kernel_init=nn.initializers.zeros, bias_init=nn.initializers.constant(self.head_bias))
        common = dict(axes=("embed", "classes"), use_bias=True, **at_start)
        head = Projection((self.num_classes,), name="head", **common)
        logits = head(x.astype(jnp.float32))
        if not self.num_region_classes:
            return logits
        batch, patches, width = tokens.shape
        side, grid = round(patches**0.5), self.grid
        if side * side != patches or side % grid:
            raise ValueError(f"{patches} patches don't divide into {grid} × {grid} regions; change grid or resolution.")
        cells = tokens.reshape(batch, grid, side // grid, grid, side // grid, width).mean((2, 4))
        region_head = Projection((self.num_region_classes,), name="region_head", **common)
        return jnp.concatenate([logits, region_head(cells.astype(jnp.float32)).reshape(batch, -1)], axis=1)


def normalise(image: Array, dtype: str) -> Array:
    """uint8 pixels → [-1, 1] in ``dtype``; floats are taken to be there already."""
    return image.astype(dtype) / 127.5 - 1.0 if image.dtype == jnp.uint8 else image.astype(dtype)


def sincos2d(rows: int, columns: int, width: int) -> Array:
    """Sines and cosines of a grid's columns and rows, float32[rows * columns, width] (Chen et al. 2021, MoCo v3).

    Raises:
      ValueError: where width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"Sine-cosine positions of a grid need a width that is a multiple of 4; got {width}.")
    row, column = jnp.mgrid[:rows, :columns].reshape(2, -1, 1)
    frequencies = 10_000.0 ** -jnp.linspace(0.0, 1.0, width // 4)
    angles = column * frequencies, row * frequencies
    return jnp.concatenate([f(angle) for angle in angles for f in (jnp.sin, jnp.cos)], axis=1)


def resample_positions(positions: Array, num_patches: int, rule: str = "align_corners") -> Array:
    """Learned positions of a square grid for another square grid: [1, P, D] → [1, num_patches, D], float32.

    Args:
      positions: the learned embeddings.
      num_patches: P of the new resolution.
      rule: "align_corners" is linear between the corner points, as scipy's zoom of order 1 in big_vision's
        ``resample_posemb``; "half_pixel" is ``jax.image.resize(…, "linear")`` without antialiasing.

    Raises:
      ValueError: where either grid isn't a square, or the rule is not known.
    """
    old, new = round(positions.shape[1] ** 0.5), round(num_patches**0.5)
    if old * old != positions.shape[1] or new * new != num_patches:
        raise ValueError(
            f"Positions are resampled between square grids only: got {positions.shape[1]} → {num_patches}."
        )
    grid = jnp.asarray(positions, jnp.float32).reshape(old, old, -1)
    if rule == "half_pixel":
        grid = jax.image.resize(grid, (new, new, grid.shape[-1]), "linear", antialias=False)
    elif rule == "align_corners":
        at = jnp.linspace(0.0, old - 1.0, new)
        low = jnp.clip(jnp.floor(at).astype(jnp.int32), 0, max(old - 2, 0))
        high = jnp.minimum(low + 1, old - 1)
        share = (at - low)[:, None, None]
        grid = grid[low] * (1 - share) + grid[high] * share
        share = (at - low)[None, :, None]
        grid = grid[:, low] * (1 - share) + grid[:, high] * share
    else:
        raise ValueError(f"Resampling rule {rule!r} is not known; known: align_corners, half_pixel.")
    return grid.reshape(1, num_patches, -1)
