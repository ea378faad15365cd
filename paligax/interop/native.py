"""paligax's own weight file: one safetensors file, a parameter's place in the tree as its name (``vision/…/kernel``).

safetensors holds names, shapes, dtypes and raw bytes and nothing that runs, and any framework reads it. Names are the
paths of the nested dict, joined by ``/``; bfloat16 is stored as it is.
"""

import difflib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from paligax.interop import weight_files

SEPARATOR = "/"
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
    """Writes a nested dict of arrays (numpy or jax, addressable) to one safetensors file; returns its bytes."""
    import safetensors.numpy

    arrays = {name: np.asarray(leaf, order="C") for name, leaf in flatten(params)}
    safetensors.numpy.save_file(arrays, os.fspath(path), metadata={"format": "np", **(metadata or {})})
    return pathlib.Path(path).stat().st_size


def load(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a file that ``save`` wrote: nested dict of numpy arrays.

    Raises FileNotFoundError, and ValueError where the file is cut short or no safetensors file.
    """
    return unflatten({name: np.array(array) for name, array in weight_files.Tensors(path).items()})


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
