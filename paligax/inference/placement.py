"""Where evaluation runs: which rows of each batch this process reads, and how they get to the devices and back."""

import dataclasses
import math
import pickle
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paligax.training import partitioning


@dataclasses.dataclass(frozen=True)
class Placement:
    """Parameters on a mesh, and the layout of batches over it.

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

    def put(self, rows: Any) -> Any:
        """This process's rows of a batch (numpy leaves) → global arrays."""
        return partitioning.to_global(rows, self.sharding, self.batch_size)

    def rows(self, array: jax.Array) -> np.ndarray:
        """A global result [batch_size, …] → this process's rows."""
        if array.is_fully_addressable:
            return np.asarray(array)
        from jax.experimental import multihost_utils

        width = self.batch_size // self.num_shards
        whole = np.asarray(multihost_utils.process_allgather(array, tiled=True))
        return whole[self.shard_index * width : (self.shard_index + 1) * width]


def place(params: Any, batch_size: int) -> Placement:
    """Puts parameters where they can be used, and says which rows this process reads.

    Parameters that lie on a mesh stay as they are. Others (numpy, or on one device) are copied to all devices, or to as
    many of them as divide the batch.

    Raises:
      ValueError: where the batch can't be cut over the mesh.
    """
    leaf = jax.tree.leaves(params)[0]
    sharding = getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding) and set(partitioning.BATCH_AXES) <= set(sharding.mesh.axis_names):
        mesh = sharding.mesh
        partitioning.check_batch_size(mesh, batch_size, 1)
    else:
        devices = jax.devices()
        if jax.process_count() == 1:
            devices = devices[: math.gcd(len(devices), batch_size)]
        mesh = partitioning.Partitioner().mesh(devices)
        partitioning.check_batch_size(mesh, batch_size, 1)
        params = _replicate(params, mesh)
    index, count = partitioning.data_shard(mesh, batch_size)
    return Placement(params, partitioning.batch_sharding(mesh), batch_size, index, count)


def _replicate(params: Any, mesh: Mesh) -> Any:
    """Every process has the same values: each puts them on its own devices."""
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, whole, lambda i, x=x: np.asarray(x)[i]), params)


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
