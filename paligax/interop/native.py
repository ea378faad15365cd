"""paligax's own weight file: one safetensors file, a parameter's place in the tree as its name (``vision/…/kernel``).

safetensors holds names, shapes, dtypes and raw bytes and nothing that runs, and any framework reads it. Names are the
paths of the nested dict, joined by ``/``; bfloat16 is stored as it is.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from paligax.interop import weight_files

SEPARATOR = "/"
_ALIGNMENT = 64  # bytes: from there on jax takes a host array as it lies
Params = Mapping[str, Any]


def flatten(params: Params, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a nested dict as ("language/encoder/…", leaf), in sorted order.

    Raises ValueError for a key that contains the separator or an empty subtree: neither would come back.
    """
    for key in sorted(params):
        if SEPARATOR in key or not key:
            raise ValueError(f"Parameter key {key!r} under {prefix!r} is empty or contains {SEPARATOR!r}: rename it.")
        value = params[key]
        if isinstance(value, Mapping):
            if not value:
                raise ValueError(f"Subtree {prefix + key!r} is empty and can't be stored: remove it.")
            yield from flatten(value, prefix + key + SEPARATOR)
        else:
            yield prefix + key, value


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict whose leaves have these joined names."""
    tree: dict[str, Any] = {}
    for name, value in leaves.items():
        *parents, last = name.split(SEPARATOR)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def save(path: str | os.PathLike, params: Params, metadata: Mapping[str, str] | None = None) -> int:
    """Writes a nested dict of arrays to one safetensors file, a leaf at a time; returns its bytes.

    The leaves are numpy's or jax's (addressable), or have a shape and a dtype and are read by ``numpy.asarray``.
    """
    leaves = dict(flatten(params))
    shapes = {name: (leaf.shape, np.dtype(leaf.dtype)) for name, leaf in leaves.items()}
    return weight_files.write(path, shapes, lambda name: np.asarray(leaves[name]), {"format": "np", **(metadata or {})})


def load(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a file that ``save`` wrote: nested dict of arrays over the mapped file.

    Raises FileNotFoundError, and ValueError where the file is cut short or no safetensors file.
    """
    return unflatten(dict(weight_files.Tensors(path)))


def on_device(array: Any) -> jax.Array:
    """One copy of an array, on the default device, which doesn't need its file any more."""
    value = np.asarray(array)
    out = aligned_empty(value.shape, value.dtype)
    out[...] = value
    return jax.device_put(out, jax.devices()[0])


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array that jax takes over as it lies, instead of copying it once more."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    buffer = np.empty(size + _ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % _ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def _kind(dtype: Any) -> str:
    """numpy's kind of a dtype ("f", "i", …); bfloat16, which numpy counts among the unknown ones, is a float."""
    dtype = np.dtype(dtype)
    return "f" if dtype.name.startswith(("bfloat", "float")) else dtype.kind


def check(params: Params, expected: Params, where: str = "the weights") -> None:
    """Compares names, shapes and dtypes with those of the model (arrays or ``jax.ShapeDtypeStruct``).

    Any float may stand for another: weights may be stored in half precision.

    Raises ValueError that lists every difference (the first twenty), a missing name with the nearest one that is there.
    """
    got = dict(flatten(params))
    want = dict(flatten(expected))
    extra = [name for name in got if name not in want]
    problems = []
    for name, leaf in want.items():
        if name not in got:
            near = difflib.get_close_matches(name, extra, n=1)
            problems.append(f"missing {name} {tuple(leaf.shape)}" + (f" (there is {near[0]})" if near else ""))
        elif tuple(got[name].shape) != tuple(leaf.shape):
            problems.append(f"{name} has shape {tuple(got[name].shape)}, the model expects {tuple(leaf.shape)}")
        elif _kind(got[name].dtype) != _kind(leaf.dtype):
            problems.append(f"{name} has dtype {got[name].dtype}, the model expects {leaf.dtype}")
    problems += [f"unknown {name} {tuple(got[name].shape)}" for name in extra]
    if problems:
        more = f"\n  … and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise ValueError(
            f"{where} don't fit the architecture in {len(problems)} places:\n  " + "\n  ".join(problems[:20]) + more
        )
