"""Where activations lie on a mesh: each device has its rows of the batch, and its part of heads, MLP and vocabulary.

Parameters are cut along their own rows too (mesh axis "fsdp"). Left to itself, the compiler may therefore cut a product
along what is summed over, and hold every device's activations for the whole batch: for PaLI-17B with one layer a stack
93 GiB a chip. Said once at every projection, rows stay where they are and it is parameters that are gathered.
"""

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from paligax.models.kernels import HEAD_AXES, ROW_AXES, dividing, mesh_of

Array = Any

# Logical axes of activations that are spread over HEAD_AXES.
CUT = ("classes", "heads", "mlp", "vocab")


def on_rows(x: Array, axes: Sequence[str | None] = ()) -> Array:
    """``x`` [B, …], each device holding its rows; unchanged where there is no mesh, or one of a single device.

    Args:
      x: rows first.
      axes: logical names of its last axes; those of CUT are spread too. A mesh axis that doesn't divide is left out.
    """
    mesh = mesh_of(x)
    if mesh is None or mesh.size == 1:
        return x
    names = (None,) * (x.ndim - len(axes)) + tuple(axes)
    spec = [dividing(mesh, HEAD_AXES, size) if name in CUT else None for name, size in zip(names, x.shape, strict=True)]
    if x.ndim > len(axes):
        spec[0] = dividing(mesh, ROW_AXES, x.shape[0])
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*spec)))
