"""What crosses from the data room to the devices: one batch class a kind of objective.

Batches are frozen dataclasses registered as pytrees, so that they pass through ``jit``, shardings and
``jax.tree.map`` as they are. Their leaves are numpy or jax arrays, or ``jax.ShapeDtypeStruct``s in an abstract batch.
"""

import dataclasses
from typing import Any, Self

import jax
import numpy as np

Array = Any


def _struct(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, np.dtype(dtype))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TextBatch:
    """Image and text in, text out (one row an example).

    Attributes:
      image: uint8[B, H, W, 3]; zeros where there is none.
      image_mask: bool[B]; False for text-only rows, whose visual tokens nobody attends to.
      inputs: int32[B, L]; encoder text, ends with EOS, padded with 0.
      targets: int32[B, T]; decoder text, ends with EOS, padded with 0. The model shifts it right itself.
      weights: float32[B, T]; loss weight of each target token: 0 on padding and in rows that could not be used.
      task: int32[B]; index into the mixture's task names.
    """

    image: Array
    image_mask: Array
    inputs: Array
    targets: Array
    weights: Array
    task: Array

    @property
    def size(self) -> int:
        return self.image.shape[0]

    @classmethod
    def abstract(cls, *, batch_size: int, resolution: int, input_length: int, target_length: int) -> Self:
        """The same batch as shapes and dtypes only, for compiling ahead of time."""
        return cls(
            image=_struct((batch_size, resolution, resolution, 3), np.uint8),
            image_mask=_struct((batch_size,), np.bool_),
            inputs=_struct((batch_size, input_length), np.int32),
            targets=_struct((batch_size, target_length), np.int32),
            weights=_struct((batch_size, target_length), np.float32),
            task=_struct((batch_size,), np.int32),
        )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LabelBatch:
    """Image in, multi-hot labels out (classification pretraining).

    Attributes:
      image: uint8[B, H, W, 3].
      labels: float32[B, C]; 1 where the class is present.
      weights: float32[B]; 0 in rows that could not be used.
      task: int32[B]; index into the mixture's task names.
    """

    image: Array
    labels: Array
    weights: Array
    task: Array

    @property
    def size(self) -> int:
        return self.image.shape[0]

    @classmethod
    def abstract(cls, *, batch_size: int, resolution: int, num_classes: int) -> Self:
        """The same batch as shapes and dtypes only, for compiling ahead of time."""
        return cls(
            image=_struct((batch_size, resolution, resolution, 3), np.uint8),
            labels=_struct((batch_size, num_classes), np.float32),
            weights=_struct((batch_size,), np.float32),
            task=_struct((batch_size,), np.int32),
        )
