import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from paligax.training.partitioning import Partitioner
from paligax.training.planning import collectives, hlo

needs_8_devices = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices (XLA_FLAGS of tests/conftest.py)")


@pytest.fixture
def compiled():
    """compiled(function, outputs' spec, *(shape, spec)) → the collectives of it on a mesh fsdp 4 × tensor 2."""
    mesh = Partitioner(1, 4, 2).mesh(jax.devices()[:8])

    def make(function, out, *inputs):
        args = [
            jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*spec)))
            for shape, spec in inputs
        ]
        program = jax.jit(function, out_shardings=NamedSharding(mesh, PartitionSpec(*out))).lower(*args).compile()
        return collectives.find(hlo.parse(program.as_text()), 8)

    return make


@needs_8_devices
def test_a_known_all_gather(compiled):
    (one,) = compiled(lambda x: x * 1.0, (), ((64, 128), ("fsdp",)))
    assert (one.kind, one.group, one.slices, one.times) == ("all-gather", 4, 1, 1)
    assert one.link_bytes == 64 * 128 * 4 * 3 / 4 and one.whole_bytes == 64 * 128 * 4


@needs_8_devices
def test_a_sharded_product_sums_over_what_is_cut(compiled):
    (one,) = compiled(lambda x, w: x @ w, ("fsdp",), ((64, 128), ("fsdp", "tensor")), ((128, 32), ("tensor",)))
    assert (one.kind, one.group) == ("all-reduce", 2)
    assert one.link_bytes == 2 * (16 * 32 * 4) * 1 / 2


@needs_8_devices
def test_what_a_scan_gathers_counts_once_a_layer(compiled):
    def layers(x, w):
        def body(x, w):
            y = jnp.tanh(x @ w)
            return jax.lax.with_sharding_constraint(y, NamedSharding(mesh, PartitionSpec("fsdp"))), None

        return jax.lax.scan(body, x, w)[0]

    mesh = Partitioner(1, 4, 2).mesh(jax.devices()[:8])
    found = compiled(layers, ("fsdp",), ((64, 128), ("fsdp",)), ((10, 128, 128), (None, "fsdp")))
    gathered = [c for c in found if c.kind == "all-gather"]
    assert sum(c.times for c in gathered) == 10
    assert sum(c.link_bytes for c in gathered) == 10 * 128 * 128 * 4 * 3 / 4


@pytest.mark.parametrize(
    "attributes, slices, expected",
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", 1, (4, 1)),
        ("replica_groups={{0,4},{1,5},{2,6},{3,7}}", 2, (2, 2)),
        ("replica_groups=[2,4]<=[8]", 2, (4, 1)),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", 2, (2, 2)),
        ("replica_groups=mesh['a'=4,'b'=2] {'a'}, dimensions={0}", 1, (4, 1)),
        ("replica_groups=mesh['a'=4,'b'=2] {'b'}", 2, (2, 1)),
        ("replica_groups=mesh['a'=8] {'a':(2)4}", 1, (4, 1)),
        ("replica_groups={}", 2, (8, 2)),
        ("source_target_pairs={{0,1},{1,0}}", 2, (2, 1)),
        ("source_target_pairs={{0,4},{4,0}}", 2, (2, 2)),
    ],
)
def test_groups_are_read_in_every_notation(attributes, slices, expected):
    assert collectives._group(attributes, 8, slices) == expected


@pytest.mark.parametrize(
    "kind, operand, group, slices, link, network",
    [
        ("all-gather", 10, 8, 1, 70, 0),
        ("all-gather", 10, 8, 2, 60, 10),  # one's part from the other slice, then seven in all around
        ("all-reduce", 80, 8, 1, 140, 0),
        ("all-reduce", 80, 8, 2, 120, 20),  # sums of a slice's quarter cross
        ("reduce-scatter", 80, 8, 1, 70, 0),
        ("all-to-all", 80, 8, 1, 70, 0),
        ("collective-permute", 80, 2, 1, 80, 0),
        ("collective-permute", 80, 2, 2, 0, 80),
        ("all-reduce", 80, 1, 1, 0, 0),
    ],
)
def test_bytes_a_device_receives(kind, operand, group, slices, link, network):
    one = collectives.Collective(kind, "x", "", operand, group, slices, times=3)
    assert (one.link_bytes, one.network_bytes) == (3 * link, 3 * network)


def test_an_all_reduce_whose_result_is_cut_is_a_reduce_scatter():
    text = """\
%all-reduce-scatter.1 (a: bf16[64,16]) -> bf16[8,16] {
  %a = bf16[64,16]{1,0} parameter(0)
  %sum = bf16[64,16]{1,0} all-reduce(%a), channel_id=1, replica_groups=[1,8]<=[8], to_apply=%add
  %at = u32[] constant(0)
  ROOT %cut = bf16[8,16]{1,0} dynamic-slice(%sum, %at, %at), dynamic_slice_sizes={8,16}
}

ENTRY %main (x: bf16[64,16]) -> bf16[8,16] {
  %x = bf16[64,16]{1,0} parameter(0)
  ROOT %fusion = bf16[8,16]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
}
"""
    (one,) = collectives.find(hlo.parse(text), 8)
    assert one.kind == "reduce-scatter" and one.link_bytes == 64 * 16 * 2 * 7 / 8
    assert collectives.totals([one]) == {"reduce-scatter": 64 * 16 * 2 * 7 / 8}
