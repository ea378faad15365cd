"""What every reader of foreign weights gives: arrays that are known before they are read, and the model they make."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from paligax.interop.layouts import Rule

ARCHITECTURE = "architecture.json"  # beside weights that paligax wrote: ``models.describe``


class Lazy:
    """An array known by shape and dtype, and read each time that ``numpy.asarray`` asks for it.

    Attributes:
      shape: of the array.
      dtype: of the array.
    """

    def __init__(self, shape: Sequence[int], dtype: Any, read: Callable[[], np.ndarray]):
        self.shape, self.dtype, self._read = tuple(shape), np.dtype(dtype), read

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        value = self._read()
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ValueError(f"Read {value.dtype}{list(value.shape)}; expected {self.dtype}{list(self.shape)}.")
        return np.array(value, dtype) if copy else np.asarray(value, dtype)

    @classmethod
    def transposed(cls, array: Any, *axes: int) -> Self:
        """A known array with its axes in another order; as of ``numpy.transpose``, in reverse where none is given."""
        axes = axes or tuple(reversed(range(len(array.shape))))
        return cls([array.shape[axis] for axis in axes], array.dtype, lambda: np.asarray(array).transpose(axes))


# Name → array over mapped pages, or Lazy.
Tensors = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Opened:
    """Foreign weights, recognised and not yet read.

    Attributes:
      place: where they lie, for messages.
      source: what says how they must be, for messages: "its config.json says".
      module: our module of the same architecture.
      inputs: what ``module.init`` is given to know the shapes: name → (shape, dtype).
      rules: where the leaves lie.
      tensors: their names → arrays.
      unused: names of tensors that our module has no place for and needs none.
    """

    place: str
    source: str
    module: Any
    inputs: Mapping[str, tuple[tuple[int, ...], Any]]
    rules: tuple[Rule, ...]
    tensors: Tensors
    unused: tuple[str, ...] = ()
