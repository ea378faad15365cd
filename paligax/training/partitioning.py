"""Where arrays live: a mesh data × fsdp × tensor, and one table from logical axes to mesh axes.

    data    copies of the model, each on its rows of the batch; several slices extend it over the data-centre network
    fsdp    rows of the batch too; parameters and optimizer state are cut along "embed" and gathered where they are used
    tensor  one row's work cut along heads, MLP width and vocabulary
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from paligax.training import trees

MESH_AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")

# Logical axis → mesh axis, most important first: within one array an earlier row takes the mesh axis before a later
# one, and of several rows for one logical axis the first that is free and divides the dimension is used. None: not cut.
DEFAULT_RULES: tuple[tuple[str, str | None], ...] = (
    ("vocab", "tensor"),
    ("mlp", "tensor"),
    ("heads", "tensor"),
    ("classes", "tensor"),
    ("embed", "fsdp"),
    ("joined", None),
    ("kv", None),
    ("layers", None),
    ("patch", None),
    ("pos", None),
    ("relpos", None),
)

# Arrays of at least this many bytes are reported where they are not cut along a mesh axis that holds parameters.
LARGE_BYTES = 16 * 2**20


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """The shape of the mesh and the rules.

    Attributes:
      data: size of the mesh axis; −1 takes all devices that the other two leave.
      fsdp: size of the mesh axis.
      tensor: size of the mesh axis.
      slices: number of TPU slices, over which "data" is spread.
      rules: logical axis → mesh axis, see DEFAULT_RULES.
      replicate_indivisible: whether a dimension that its mesh axis does not divide is left uncut (and reported) instead
        of refused.
      shrink: whether fsdp and tensor are upper bounds, of which as much is taken as divides the devices of a slice,
        fsdp first: one file then describes a run on one chip and on a pod.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    slices: int = 1
    rules: Sequence[tuple[str, str | None]] = DEFAULT_RULES
    replicate_indivisible: bool = False
    shrink: bool = False

    def mesh(self, devices: Sequence[Any] | None = None) -> Mesh:
        """The mesh over these devices (all of them by default).

        Raises:
          ValueError: where the sizes don't multiply to the number of devices.
        """
        devices = list(jax.devices() if devices is None else devices)
        fsdp, tensor = self.fsdp, self.tensor
        if self.shrink:
            fsdp = math.gcd(fsdp, len(devices) // self.slices)
            tensor = math.gcd(tensor, len(devices) // self.slices // fsdp)
        others = fsdp * tensor
        data = len(devices) // others if self.data == -1 else self.data
        shape = (data, fsdp, tensor)
        if min(shape) < 1 or math.prod(shape) != len(devices):
            raise ValueError(
                f"Partitioner(data={self.data}, fsdp={fsdp}, tensor={tensor}) needs "
                f"{f'a multiple of {others}' if self.data == -1 else math.prod(shape)} devices, there are "
                f"{len(devices)}. "
                "Their product must be the number of devices; data=-1 takes what the others leave."
            )
        if self.slices > 1 and data % self.slices:
            raise ValueError(f"Partitioner.slices={self.slices} must divide the mesh's data axis ({data}).")
        if self.slices == 1 and devices[0].platform != "tpu":
            return jax.make_mesh(shape, MESH_AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)
        from jax.experimental import mesh_utils

        # A pod's links form a torus: mesh axes follow its sides where they can, and share one where they can't.
        inner, split = (data // self.slices, fsdp, tensor), dict(allow_split_physical_axes=True)
        if self.slices > 1:
            grid = mesh_utils.create_hybrid_device_mesh(inner, (self.slices, 1, 1), devices, **split)
        else:
            grid = mesh_utils.create_device_mesh(inner, devices, **split)
        return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * 3)

    def shardings(self, mesh: Mesh, axes: Mapping[str, Any], shapes: Mapping[str, Any]) -> tuple[dict, list[str]]:
        """The sharding of every array, and what a person should know about them.

        Args:
          mesh: from :meth:`mesh`.
          axes: nested dict of tuples of logical axis names.
          shapes: the same nested dict of arrays or ``jax.ShapeDtypeStruct``.

        Returns:
          Nested dict of NamedSharding; lines on dimensions left uncut and on large arrays that are replicated.

        Raises:
          ValueError: listing every logical axis without a rule, rule for an unknown axis or mesh axis, and dimension
            that its mesh axis doesn't divide (unless ``replicate_indivisible``).
        """
        flat_axes, flat_shapes = trees.flatten(axes), trees.flatten(shapes)
        self._check_rules(sorted({name for names in flat_axes.values() for name in names if name is not None}))
        problems: list[str] = []
        notes: list[str] = []
        shardings = {}
        for name, names in flat_axes.items():
            spec, uncut = self._spec(mesh, names, flat_shapes[name].shape)
            (notes if self.replicate_indivisible else problems).extend(f"{name}: {line}" for line in uncut)
            shardings[name] = NamedSharding(mesh, spec)
            notes.extend(_large_replicated(name, flat_shapes[name], shardings[name]))
        if problems:
            more = f"\n  … and {len(problems) - 20} more" if len(problems) > 20 else ""
            raise ValueError(
                f"The mesh {dict(mesh.shape)} does not divide the model:\n  " + "\n  ".join(problems[:20]) + more + "\n"
                "Change the model's size or the mesh, or leave them uncut by Partitioner.replicate_indivisible=True."
            )
        return trees.unflatten(shardings), notes

    def state_shardings(self, mesh: Mesh, axes: Any, shapes: Any) -> Any:
        """The same for any pytree whose axes come from an optimizer; its parameters have been checked before."""
        return jax.tree.map(
            lambda names, leaf: NamedSharding(mesh, self._spec(mesh, names, leaf.shape)[0]),
            axes,
            shapes,
            is_leaf=lambda leaf: type(leaf) is tuple,
        )

    def _check_rules(self, used: Sequence[str]) -> None:
        known = {logical for logical, _ in self.rules}
        problems = []
        for logical in used:
            if logical not in known:
                near = difflib.get_close_matches(logical, sorted(known), n=1)
                problems.append(f"the model's axis {logical!r} has no rule" + (f" (near: {near[0]!r})" if near else ""))
        ours = {logical for logical, _ in DEFAULT_RULES}
        for logical, mesh_axis in self.rules:
            if logical not in used and logical not in ours:
                near = difflib.get_close_matches(logical, sorted(ours | set(used)), n=1)
                hint = f" (near: {near[0]!r})" if near else ""
                problems.append(f"rule {logical!r} is of no use to this model{hint}")
            if mesh_axis is not None and mesh_axis not in MESH_AXES:
                problems.append(f"rule {logical!r} names mesh axis {mesh_axis!r}; there are {', '.join(MESH_AXES)}")
        if problems:
            raise ValueError("Partitioner.rules don't fit the model:\n  " + "\n  ".join(problems))

    def _spec(self, mesh: Mesh, names: Sequence[str | None], shape: Sequence[int]) -> tuple[PartitionSpec, list[str]]:
        """PartitionSpec of one array, and a line for each dimension that should be cut and can't be."""
        if len(names) != len(shape):
            raise ValueError(f"{len(names)} logical axes {tuple(names)} for an array of shape {tuple(shape)}.")
        cut: dict[int, str] = {}
        refused: dict[int, str] = {}
        for logical, mesh_axis in self.rules:
            if mesh_axis is None or mesh.shape[mesh_axis] == 1 or mesh_axis in cut.values():
                continue
            for i, name in enumerate(names):
                if name != logical or i in cut:
                    continue
                parts = mesh.shape[mesh_axis]
                if shape[i] % parts:
                    refused[i] = f"axis {name!r} of size {shape[i]} is not a multiple of {mesh_axis}={parts}"
                else:
                    cut[i] = mesh_axis
                    break
        spec = [cut.get(i) for i in range(len(names))]
        while spec and spec[-1] is None:
            spec.pop()
        return PartitionSpec(*spec), [line for i, line in refused.items() if i not in cut]


def _large_replicated(name: str, leaf: Any, sharding: NamedSharding) -> list[str]:
    size = math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
    missing = [a for a in ("fsdp", "tensor") if sharding.mesh.shape[a] > 1 and a not in sharding.spec]
    if size < LARGE_BYTES or not missing:
        return []
    return [f"{name}: {tuple(leaf.shape)}, {size / 2**20:.0f} MiB, is replicated along {' and '.join(missing)}"]


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of the batch over data and fsdp; every other dimension whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def check_batch_size(mesh: Mesh, batch_size: int, num_microbatches: int) -> None:
    """Raises ValueError where the batch can't be cut evenly into microbatches and over the mesh."""
    rows = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
    if batch_size % (num_microbatches * rows):
        raise ValueError(
            f"Data.batch_size={batch_size} must be a multiple of num_microbatches × data × fsdp = {num_microbatches} × "
            f"{mesh.shape['data']} × {mesh.shape['fsdp']} = {num_microbatches * rows}."
        )


def _rows_of_processes(mesh: Mesh, batch_size: int) -> dict[int, tuple[tuple[int, int], ...]]:
    """Process → the spans of global rows that its devices hold, in order."""
    rows: dict[int, set[tuple[int, int]]] = {}
    for device, index in batch_sharding(mesh).devices_indices_map((batch_size,)).items():
        start, stop, _ = index[0].indices(batch_size)
        rows.setdefault(device.process_index, set()).add((start, stop))
    return {process: tuple(sorted(spans)) for process, spans in rows.items()}


def data_shard(mesh: Mesh, batch_size: int) -> tuple[int, int]:
    """(shard_index, num_shards): which part of every batch this process must read.

    Processes whose devices hold the same rows (a tensor axis over several processes) get the same shard. Where a
    process's rows are scattered over the global array, as pods may lay them out, its shard's examples are: a batch is
    the same set of examples on every mesh.

    Raises:
      ValueError: where processes share some of their rows and not all.
    """
    rows = _rows_of_processes(mesh, batch_size)
    shards = sorted(set(rows.values()))
    if sum(stop - start for spans in shards for start, stop in spans) != batch_size or len(set(map(len, shards))) > 1:
        raise ValueError(
            f"The rows of a batch of {batch_size} fall unevenly on the processes of the mesh {dict(mesh.shape)}: "
            f"{rows}. Choose mesh sizes with which the processes hold equal parts of the batch."
        )
    return shards.index(rows[jax.process_index()]), len(shards)


def process_rows(mesh: Mesh, batch_size: int) -> np.ndarray:
    """Indices into a global array of this process's rows, in the order in which it read them: int64[rows]."""
    spans = _rows_of_processes(mesh, batch_size)[jax.process_index()]
    return np.concatenate([np.arange(start, stop) for start, stop in spans])


def to_global(batch: Any, sharding: NamedSharding, batch_size: int) -> Any:
    """This process's rows (numpy leaves) → global arrays of ``batch_size`` rows."""
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x), (batch_size, *x.shape[1:])), batch
    )
