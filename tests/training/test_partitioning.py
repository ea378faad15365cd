import types

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from paligax.training import partitioning, trees
from paligax.training.partitioning import Partitioner


def mesh(data=2, fsdp=2, tensor=2):
    return AbstractMesh((data, fsdp, tensor), partitioning.MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def shardings(arrays, partitioner=Partitioner(), mesh=mesh()):  # noqa: B008 (neither is changed)
    """{name: (axes, shape)} → (name → spec, notes)."""
    axes = {name: names for name, (names, _) in arrays.items()}
    shapes = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, (_, shape) in arrays.items()}
    found, notes = partitioner.shardings(mesh, trees.unflatten(axes), trees.unflatten(shapes))
    return {name: sharding.spec for name, sharding in trees.flatten(found).items()}, notes


def test_the_table_is_short():
    assert len(partitioning.DEFAULT_RULES) <= 15


def test_axes_become_mesh_axes():
    found, notes = shardings(
        {
            "a/kernel": (("layers", "embed", "heads", "kv"), (3, 8, 4, 5)),
            "a/out": (("layers", "heads", "kv", "embed"), (3, 4, 5, 8)),
            "b/scale": (("embed",), (8,)),
            "c/relpos": (("relpos", None), (32, 3)),
        }
    )
    assert found == {
        "a/kernel": PartitionSpec(None, "fsdp", "tensor"),
        "a/out": PartitionSpec(None, "tensor", None, "fsdp"),
        "b/scale": PartitionSpec("fsdp"),
        "c/relpos": PartitionSpec(),
    }
    assert notes == []


def test_a_mesh_axis_of_size_one_cuts_nothing():
    found, _ = shardings({"w": (("embed", "mlp"), (7, 5))}, mesh=mesh(8, 1, 1))
    assert found == {"w": PartitionSpec()}


def test_earlier_rules_come_first_and_a_mesh_axis_is_used_once():
    rules = (("mlp", "tensor"), ("embed", "tensor"), ("embed", "fsdp"))
    arrays = {"w": (("embed", "mlp"), (4, 4)), "v": (("embed",), (4,)), "u": (("embed", "embed"), (4, 4))}
    found, _ = shardings(arrays, Partitioner(rules=rules))
    assert found["w"] == PartitionSpec("fsdp", "tensor")
    assert found["v"] == PartitionSpec("tensor")
    assert found["u"] == PartitionSpec("tensor", "fsdp")


def test_an_indivisible_dimension_is_refused_or_left_and_said():
    arrays = {"x/relpos": (("relpos", "heads"), (32, 6)), "y": (("embed",), (7,))}
    with pytest.raises(ValueError) as caught:
        shardings(arrays, mesh=mesh(1, 2, 4))
    assert "x/relpos: axis 'heads' of size 6 is not a multiple of tensor=4" in str(caught.value)
    assert "y: axis 'embed' of size 7" in str(caught.value) and "replicate_indivisible" in str(caught.value)
    found, notes = shardings(arrays, Partitioner(replicate_indivisible=True), mesh(1, 2, 4))
    assert found == {"x/relpos": PartitionSpec(), "y": PartitionSpec()} and len(notes) == 2


def test_a_later_rule_catches_an_indivisible_dimension():
    partitioner = Partitioner(rules=(("heads", "tensor"), ("heads", "fsdp")))
    found, notes = shardings({"w": (("heads",), (6,))}, partitioner, mesh(1, 2, 4))
    assert found == {"w": PartitionSpec("fsdp")} and notes == []


def test_large_replicated_arrays_are_reported():
    _, notes = shardings({"table": (("pos", None), (4096, 2048)), "small": (("pos",), (9,))})
    assert notes == ["table: (4096, 2048), 32 MiB, is replicated along fsdp and tensor"]


@pytest.mark.parametrize(
    "rules, message",
    [
        ((("embed", "fsdp"),), "axis 'mlp' has no rule"),
        ((*partitioning.DEFAULT_RULES, ("embd", "fsdp")), "rule 'embd' is of no use to this model (near: 'embed')"),
        ((("embed", "model"), ("mlp", None)), "names mesh axis 'model'; there are data, fsdp, tensor"),
    ],
)
def test_rules_that_do_not_fit_are_refused(rules, message):
    with pytest.raises(ValueError) as caught:
        shardings({"w": (("embed", "mlp"), (4, 4))}, Partitioner(rules=rules))
    assert message in str(caught.value)


def test_mesh_takes_what_the_others_leave_and_refuses_what_does_not_fit():
    devices = jax.devices()
    made = Partitioner(data=-1).mesh(devices)
    assert dict(made.shape) == {"data": len(devices), "fsdp": 1, "tensor": 1}
    assert made.axis_types == (AxisType.Auto,) * 3
    with pytest.raises(ValueError, match="a multiple of 3 devices, there are 1"):
        Partitioner(tensor=3).mesh(devices[:1])
    with pytest.raises(ValueError, match="needs 6 devices, there are 1"):
        Partitioner(data=2, fsdp=3).mesh(devices[:1])


def test_batch_size_must_fit_mesh_and_microbatches():
    partitioning.check_batch_size(mesh(), 16, 4)
    with pytest.raises(ValueError, match="batch_size=24 must be a multiple .* = 16"):
        partitioning.check_batch_size(mesh(), 24, 4)


class Device:
    def __init__(self, process_index):
        self.process_index = process_index


def shard_of(monkeypatch, process, processes, rows):
    """data_shard on process of devices whose rows of the batch are given: [(process, start, stop)]."""
    index_map = {Device(p): (slice(a, b),) for p, a, b in rows}
    monkeypatch.setattr(jax, "process_index", lambda: process)
    sharding = types.SimpleNamespace(devices_indices_map=lambda shape: index_map)
    monkeypatch.setattr(partitioning, "batch_sharding", lambda mesh: sharding)
    return partitioning.data_shard(mesh(), 8)


def test_processes_read_contiguous_parts(monkeypatch):
    rows = [(0, 0, 2), (0, 2, 4), (1, 4, 6), (1, 6, 8)]
    assert shard_of(monkeypatch, 0, 2, rows) == (0, 2)
    assert shard_of(monkeypatch, 1, 2, rows) == (1, 2)


def test_processes_that_share_rows_read_the_same(monkeypatch):
    rows = [(0, 0, 4), (1, 0, 4), (2, 4, 8), (3, 4, 8)]  # a tensor axis over two processes
    assert [shard_of(monkeypatch, p, 4, rows) for p in range(4)] == [(0, 2), (0, 2), (1, 2), (1, 2)]


def test_scattered_rows_are_one_shard(monkeypatch):
    rows = [(0, 0, 2), (1, 2, 4), (0, 4, 6), (1, 6, 8)]
    assert [shard_of(monkeypatch, p, 2, rows) for p in range(2)] == [(0, 2), (1, 2)]
    np.testing.assert_array_equal(partitioning.process_rows(mesh(), 8), [2, 3, 6, 7])


def test_rows_that_are_shared_in_part_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="fall unevenly"):
        shard_of(monkeypatch, 0, 2, [(0, 0, 4), (1, 0, 4), (1, 4, 8)])


def test_to_global_keeps_rows_in_order():
    made = Partitioner().mesh()
    rows = np.arange(16).reshape(8, 2)
    placed = partitioning.to_global({"x": rows}, partitioning.batch_sharding(made), 8)["x"]
    np.testing.assert_array_equal(placed, rows)
    assert placed.sharding.spec == PartitionSpec(("data", "fsdp"))


@pytest.mark.parametrize(
    "devices, slices, expected",
    [(1, 1, (1, 1, 1)), (2, 1, (1, 2, 1)), (8, 1, (1, 4, 2)), (6, 1, (1, 3, 2)), (8, 2, (2, 4, 1))],
)
def test_a_mesh_that_shrinks_takes_what_divides_the_devices(monkeypatch, devices, slices, expected):
    if jax.device_count() < devices:
        pytest.skip(f"needs {devices} devices")
    found = []

    def hybrid(inner, outer, devices, **_):
        found.append(tuple(a * b for a, b in zip(inner, outer, strict=True)))
        return np.asarray(devices).reshape(found[-1])

    monkeypatch.setattr("jax.experimental.mesh_utils.create_hybrid_device_mesh", hybrid)
    partitioner = Partitioner(fsdp=3 if devices == 6 else 4, tensor=4, slices=slices, shrink=True)
    mesh = partitioner.mesh(jax.devices()[:devices])
    assert tuple(mesh.shape.values()) == expected and (slices == 1 or found == [expected])


def test_a_tpus_mesh_may_share_the_sides_of_its_torus(monkeypatch):
    calls = []

    def create(shape, devices, allow_split_physical_axes):
        calls.append((tuple(shape), allow_split_physical_axes))
        return np.asarray(jax.devices()[:1] * len(devices)).reshape(shape)

    monkeypatch.setattr("jax.experimental.mesh_utils.create_device_mesh", create)
    tpus = [types.SimpleNamespace(platform="tpu")]
    Partitioner().mesh(tpus)
    assert calls == [((1, 1, 1), True)]
