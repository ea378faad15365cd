"""A foreign model as a tree of our leaves: everything about it is known at opening, and each leaf is read when asked.

A leaf is copied once, from the mapped file into its place on its device; with a sharding, only the part that lies on
this process's devices is touched.
"""

import dataclasses
import difflib
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from paligax import models
from paligax.interop import hf, native
from paligax.interop.layouts import Layout

_ALIGNMENT = 64  # bytes: from there on jax takes a host array as it lies
_SHOWN = 40


@dataclasses.dataclass(frozen=True)
class Foreign:
    """An opened foreign model.

    Attributes:
      place: where it lies.
      module: our module of the same architecture.
      shapes: our leaves' names, joined by "/" → shape and dtype, as stored there.
      unused: names of tensors there that the module has no place for and needs none (a pooling head, say).
    """

    place: str
    module: Any
    shapes: Mapping[str, jax.ShapeDtypeStruct]
    unused: tuple[str, ...]
    _layouts: Mapping[str, Layout]
    _tensors: Mapping[str, np.ndarray]

    def read(self, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """The leaves asked for, in the dtype and with the sharding (None: the default device) asked for."""
        return {name: self._leaf(name, spec) for name, spec in wanted.items()}

    def _leaf(self, name: str, spec: jax.ShapeDtypeStruct) -> jax.Array:
        layout = self._layouts[name]
        sharding = spec.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])

        def part(index: tuple[slice, ...]) -> np.ndarray:
            shape = tuple(len(range(*i.indices(size))) for i, size in zip(index, layout.shape, strict=True))
            out = _aligned_empty(shape, spec.dtype)
            layout.read(self._tensors.__getitem__, index, out)
            return out

        return jax.make_array_from_callback(layout.shape, sharding, part)

    def params(self) -> dict[str, Any]:
        """All of them, as a nested dict on the default device."""
        return native.unflatten(self.read(self.shapes))


def open_foreign(path: pathlib.Path) -> Foreign:
    """Opens a directory that transformers saved.

    Raises:
      FileNotFoundError: where a file is missing.
      ValueError: where a file is damaged, of a family that isn't known, or doesn't hold what its configuration says;
        then all leaves that are missing, misshapen or unexpected are listed.
    """
    opened = hf.open_directory(path)
    arguments = [jax.ShapeDtypeStruct(*spec) for spec in opened.inputs.values()]
    tree = jax.eval_shape(opened.module.init, jax.random.key(0), *arguments)
    leaves = dict(native.flatten(models.unbox(tree)["params"]))
    shapes, problems = {}, []
    layouts = {rule.ours: Layout(rule, leaves[rule.ours].shape) for rule in opened.rules}
    left = sorted(set(opened.tensors).difference(*(layout.names for layout in layouts.values())))
    for ours, layout in layouts.items():
        for name in layout.names:
            if name not in opened.tensors:
                near = difflib.get_close_matches(name, left, n=1)
                problems.append(f"missing {name}" + (f" (there is {near[0]})" if near else ""))
            elif opened.tensors[name].shape != layout.foreign_shape:
                problems.append(
                    f"{name} has shape {list(opened.tensors[name].shape)}, its config.json asks for "
                    f"{list(layout.foreign_shape)}"
                )
            elif not jax.numpy.issubdtype(opened.tensors[name].dtype, jax.numpy.floating):
                problems.append(f"{name} has dtype {opened.tensors[name].dtype}, expected a float")
            else:
                shapes[ours] = jax.ShapeDtypeStruct(layout.shape, opened.tensors[name].dtype)
    problems += [f"unexpected {name} {list(opened.tensors[name].shape)}" for name in left]
    if unread := set(leaves) - set(layouts):
        raise AssertionError(f"No rule for {', '.join(sorted(unread))}.")
    if problems:
        more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{str(path)!r} isn't what its config.json says, in {len(problems)} places:\n  "
            + "\n  ".join(problems[:_SHOWN])
            + more
        )
    return Foreign(str(path), opened.module, shapes, opened.unused, layouts, opened.tensors)


def _aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)
