"""How a parameter of ours lies in somebody else's tensors: written once, read in both directions.

    Rule("blocks/attention/query/kernel", "encoder.layers.{i}.self_attn.q_proj.weight", "(n k) d -> d n k")

says that our stacked kernel [layers, D, N, K] is, for each layer i, their matrix [N·K, D]. What moves is numbers
alone, so that going there and back gives the same bits.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

LAYER = "{i}"


@dataclasses.dataclass(frozen=True)
class Rule:
    """Where one of our leaves lies.

    Attributes:
      ours: name of the leaf, its parents joined by "/".
      theirs: name of their tensor; with "{i}" our leaf has a leading axis of layers and each layer a tensor of its own.
      pattern: their axes -> our axes (without the layers), in einops' notation: axes that they have joined stand in
        brackets, a 1 is an axis of size one that only one side has. "" where both are alike.
      part: (k, n): ours is the k-th of n equal parts of their first axis (a packed query, key and value).
    """

    ours: str
    theirs: str
    pattern: str = ""
    part: tuple[int, int] = (0, 1)

    @property
    def stacked(self) -> bool:
        return LAYER in self.theirs


class Layout:
    """A rule for a leaf of a known shape.

    Attributes:
      rule: the rule.
      shape: of our leaf.
      foreign_shape: of each of their tensors.

    Raises ValueError where the rule's axes don't fit the shape.
    """

    def __init__(self, rule: Rule, shape: Sequence[int]):
        self.rule, self.shape = rule, tuple(shape)
        own = self.shape[1:] if rule.stacked else self.shape
        if rule.stacked and not self.shape:
            raise ValueError(f"{rule.ours} has no axis of layers; {rule.theirs} asks for one.")
        self._split, self._order, grouped = _parse(rule.pattern, own, rule.ours)
        first, *rest = [math.prod(group) for group in grouped] or [1]
        self.foreign_shape = (first * rule.part[1], *rest) if grouped else ()

    @property
    def names(self) -> list[str]:
        """Their tensors, one a layer."""
        count = self.shape[0] if self.rule.stacked else 1
        return [self.rule.theirs.replace(LAYER, str(i)) for i in range(count)]

    def view(self, foreign: np.ndarray) -> np.ndarray:
        """Our leaf (or one layer of it) as a view of their tensor, wherever that lies."""
        number, parts = self.rule.part
        if parts > 1:
            size = foreign.shape[0] // parts
            foreign = foreign[number * size : (number + 1) * size]
        own = self.shape[1:] if self.rule.stacked else self.shape
        return foreign.reshape(self._split).transpose(self._order).reshape(own)

    def read(self, get: Callable[[str], np.ndarray], index: tuple[slice, ...], out: np.ndarray) -> None:
        """Fills ``out`` with our leaf's part at ``index`` (one slice an axis), touching only what lies there.

        Args:
          get: their name → their tensor, best a view of a mapped file.
          index: as jax gives it for a shard.
          out: of the part's shape; the dtype may be another than theirs.
        """
        if not self.rule.stacked:
            out[...] = self.view(get(self.names[0]))[index]
            return
        names = self.names
        for row, layer in enumerate(range(*index[0].indices(self.shape[0]))):
            out[row] = self.view(get(names[layer]))[index[1:]]

    def write(self, value: np.ndarray, tensors: Mapping[str, np.ndarray]) -> None:
        """Puts our leaf into their tensors, which :meth:`names` and ``foreign_shape`` describe."""
        for name, own in zip(self.names, value if self.rule.stacked else [value], strict=True):
            self.view(tensors[name])[...] = own


def _parse(pattern: str, shape: tuple[int, ...], name: str):
    """(their axes taken apart, their order as ours, sizes grouped as they have them)."""
    if not pattern:
        return shape, tuple(range(len(shape))), [[size] for size in shape]
    theirs, ours = (side.strip() for side in pattern.split("->"))
    groups = [match.strip("()").split() for match in re.findall(r"\([^)]*\)|\S+", theirs)]
    names = ours.split()
    if len(names) != len(shape):
        raise ValueError(f"{name} has {len(shape)} axes {list(shape)}; the pattern {pattern!r} gives it {len(names)}.")
    sizes = dict(zip(names, shape, strict=True))
    flat = [axis for group in groups for axis in group if axis != "1"]
    if sorted(flat) != sorted(axis for axis in names if axis != "1"):
        raise ValueError(f"{name}: the two sides of the pattern {pattern!r} name different axes.")
    order = tuple(flat.index(axis) for axis in names if axis != "1")
    return [sizes[axis] for axis in flat], order, [[1 if a == "1" else sizes[a] for a in group] for group in groups]
