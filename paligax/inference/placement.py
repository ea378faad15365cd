"""Where evaluation runs: which rows of each batch this process reads, and how they get to the devices and back."""

import dataclasses
import functools
import math
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paligax import models
from paligax.training import partitioning


@dataclasses.dataclass(frozen=True)
class Placement:
    """Parameters on a mesh, and the layout of batches over it.

    A batch has one order, in which examples are counted: the rows of shard 0, then those of shard 1, … In the global
    arrays, rows may lie otherwise (``partitioning.data_shard``).

    Attributes:
      params: global arrays.
      sharding: of a batch's rows.
      batch_size: rows of a global batch.
      shard_index: which part of every global batch this process reads.
      num_shards: number of parts.
    """

    params: Any
    sharding: NamedSharding
    batch_size: int
    shard_index: int
    num_shards: int

    @property
    def width(self) -> int:
        """Rows of a batch that this process reads."""
        return self.batch_size // self.num_shards

    def put(self, rows: Any) -> Any:
        """This process's rows of a batch (numpy leaves) → global arrays; global arrays stay as they are."""
        return jax.tree.map(
            lambda x: x if isinstance(x, jax.Array) else partitioning.to_global(x, self.sharding, self.batch_size), rows
        )

    def rows(self, array: jax.Array) -> np.ndarray:
        """A global result [batch_size, …] → this process's rows."""
        if array.is_fully_addressable:
            return np.asarray(array)
        from jax.experimental import multihost_utils

        whole = np.asarray(multihost_utils.process_allgather(array, tiled=True))
        return whole[partitioning.process_rows(self.sharding.mesh, self.batch_size)]

    def everyone(self, rows: Sequence[Any]) -> list[Any]:
        """What each process says of its own rows → the same of all rows of the batch, in the batch's order."""
        if self.num_shards == 1:
            return list(rows)
        return [row for _, part in sorted(dict(gather([(self.shard_index, list(rows))])).items()) for row in part]

    @functools.cached_property
    def _places(self) -> np.ndarray:
        """int64[batch_size]: where the batch's rows lie in a global array."""
        return np.asarray(self.everyone(partitioning.process_rows(self.sharding.mesh, self.batch_size).tolist()))

    def taken(self, images: Sequence[np.ndarray], source: np.ndarray) -> Any:
        """A batch's images replaced by others, of any process.

        Args:
          images: this process's rows of some batches, uint8[width, H, W, 3] each; the first is the batch itself.
          source: int64[batch_size], the same on all processes: for each row of the batch the number of the row that it
            gets, counted through all the batches.

        Returns:
          uint8[batch_size, H, W, 3]: a global array; with one shard a numpy array of its rows.
        """
        if self.num_shards == 1:
            pool = [(image, row) for image in images for row in range(len(image))]
            return np.stack([pool[s][0][pool[s][1]] for s in source])
        images = images[: 1 + int(source.max()) // self.batch_size]  # of the others none is wanted
        batch, row = np.divmod(source, self.batch_size)
        index = np.empty(self.batch_size, np.int32)
        index[self._places] = batch * self.batch_size + self._places[row]
        return _take(tuple(map(self.put, images)), index, self.sharding)


@functools.partial(jax.jit, static_argnames="sharding")
def _take(images: tuple[jax.Array, ...], index: jax.Array, sharding: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(jnp.concatenate(images)[index], sharding)


def place(
    params: Any,
    batch_size: int,
    partitioner: partitioning.Partitioner | None = None,
    module: Any = None,
    lengths: Mapping[str, int] | None = None,
) -> Placement:
    """Puts parameters where they can be used, and says which rows this process reads.

    Parameters that lie on a mesh stay as they are. Others (numpy, or on one device) are cut over the partitioner's mesh
    by its rules; without one they are copied to all devices, or to as many of them as divide the batch.

    Args:
      params: nested dict of arrays; the same in all processes.
      batch_size: rows of a global batch.
      partitioner: mesh and rules.
      module, lengths: whose parameters they are, and the data's feature lengths; needed with a partitioner.

    Raises:
      ValueError: where the batch can't be cut over the mesh, or the model can't.
    """
    leaf = jax.tree.leaves(params)[0]
    sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding) and set(partitioning.BATCH_AXES) <= set(sharding.mesh.axis_names):
        mesh = sharding.mesh
        partitioning.check_batch_size(mesh, batch_size, 1)
    elif partitioner is not None:
        mesh = partitioner.mesh()
        partitioning.check_batch_size(mesh, batch_size, 1)
        params = _cut(params, partitioner, mesh, module, lengths)
    else:
        devices = jax.devices()
        if jax.process_count() == 1:
            devices = devices[: math.gcd(len(devices), batch_size)]
        mesh = partitioning.Partitioner().mesh(devices)
        partitioning.check_batch_size(mesh, batch_size, 1)
        whole = NamedSharding(mesh, PartitionSpec())
        params = jax.tree.map(lambda x: _spread(x, whole), params)
    index, count = partitioning.data_shard(mesh, batch_size)
    return Placement(params, partitioning.batch_sharding(mesh), batch_size, index, count)


def _cut(
    params: Any, partitioner: partitioning.Partitioner, mesh: Mesh, module: Any, lengths: Mapping[str, int]
) -> Any:
    ids = [jax.ShapeDtypeStruct((1, 1), np.int32)] * (2 if "inputs" in lengths else 0)
    image = [jax.ShapeDtypeStruct((1, lengths["image"], lengths["image"], 3), np.uint8)]
    seen = image if "image" in models.lengths_of(module) else []
    boxed = jax.eval_shape(module.init, jax.random.key(0), *seen, *ids)["params"]
    shardings, _ = partitioner.shardings(mesh, models.logical_axes(boxed), models.unbox(boxed))
    return jax.tree.map(_spread, params, shardings)


def _spread(array: Any, sharding: NamedSharding) -> jax.Array:
    """Every process has the same values: each puts its part of them on its own devices."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: np.asarray(array)[index])


def gather(items: list[Any]) -> list[Any]:
    """All processes' items, process 0's first. They cross the network as bytes: text, and the few images shown."""
    if jax.process_count() == 1:
        return items
    from jax.experimental import multihost_utils

    mine = np.frombuffer(pickle.dumps(items), np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(np.asarray([mine.size]))).reshape(-1)
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: mine.size] = mine
    everyone = np.asarray(multihost_utils.process_allgather(padded)).reshape(len(sizes), -1)
    return [item for row, size in zip(everyone, sizes, strict=True) for item in pickle.loads(row[:size].tobytes())]
