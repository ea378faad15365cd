import dataclasses
import types

import jax
import jax.numpy as jnp
import pytest

from paligax.training.flops import CHIPS
from paligax.training.planning import estimate, hlo
from paligax.training.planning.collectives import Collective

V5P = types.SimpleNamespace(device_kind="TPU v5")
# A loop of ten turns around a fusion that reads a slice of its operand, then a slice into fast memory.
TEXT = """\
%fused (all: f32[10,256,128], at: s32[]) -> f32[256,128] {
  %all = f32[10,256,128]{2,1,0} parameter(0)
  %at = s32[] parameter(1)
  %piece = f32[1,256,128]{2,1,0} dynamic-slice(%all, %at, %at, %at), dynamic_slice_sizes={1,256,128}
  ROOT %flat = f32[256,128]{1,0} bitcast(%piece)
}

%condition (s: (s32[], f32[10,256,128])) -> pred[] {
  %s = (s32[], f32[10,256,128]{2,1,0}) parameter(0)
  ROOT %go = pred[] custom-call(%s), custom_call_target="Go"
}

%body (s: (s32[], f32[10,256,128])) -> (s32[], f32[10,256,128]) {
  %s = (s32[], f32[10,256,128]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %a = f32[10,256,128]{2,1,0} get-tuple-element(%s), index=1
  %f = f32[256,128]{1,0} fusion(%a, %i), kind=kLoop, calls=%fused
  ROOT %t = (s32[], f32[10,256,128]{2,1,0}) tuple(%i, %a)
}

ENTRY %main (x: f32[10,256,128]) -> f32[256,128] {
  %x = f32[10,256,128]{2,1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[10,256,128]{2,1,0}) tuple(%zero, %x)
  %w = (s32[], f32[10,256,128]{2,1,0}) while(%start), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"10"}}
  %y = f32[256,128]{1,0:T(8,128)S(1)} slice(%x), slice={[0:1]}
  ROOT %z = f32[256,128]{1,0} negate(%y)
}
"""
PIECE = 256 * 128 * 4


def moved(module):
    return sum(times * moved for times, _, moved in estimate.costs(module))


def test_memory_counts_slices_not_what_they_are_cut_from_and_no_fast_memory():
    # Ten times a piece and its index read, a piece written; then a slice (into fast memory), and a piece written.
    assert moved(hlo.parse(TEXT)) == 10 * (2 * PIECE + 4) + PIECE


def test_memory_of_a_real_scan_is_that_of_its_layers():
    def f(x, w):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

    x, w = jnp.zeros((512, 512)), jnp.zeros((10, 512, 512))
    compiled = jax.jit(f).lower(x, w).compile()
    found = moved(hlo.parse(compiled.as_text()))
    one = 512 * 512 * 4
    assert 10 * 3 * one <= found <= 10 * 8 * one  # a product reads two and writes one; copies of the loop's state


def collective(link_bytes):
    return Collective("collective-permute", "x", "", link_bytes, 2, 1, 1.0)


def test_expected_hides_all_sending_and_worst_none():
    module = hlo.parse(TEXT)
    speed = estimate.SPEEDS["v5p"]
    compiler = moved(module) / speed.bandwidth / speed.calibration / estimate.OF_COMPILER
    for sent in (1e6, 1e12):
        found = estimate.seconds(module, [collective(sent)], V5P, flops_per_device=0.0, kernel_flops=0.0)
        assert found.compiler == pytest.approx(compiler)
        assert found.collectives == pytest.approx(sent / 600e9)
        assert found.expected == pytest.approx(max(compiler, sent / 600e9))
        assert found.worst == pytest.approx(compiler + sent / 600e9)


def test_the_roofline_is_the_highest_of_three_bounds():
    module = hlo.parse(TEXT)
    flops = estimate.seconds(module, [], V5P, flops_per_device=459e12, kernel_flops=0.0)
    assert flops.roofline == pytest.approx(1.0)
    memory = estimate.seconds(module, [], V5P, flops_per_device=0.0, kernel_flops=0.0)
    assert memory.roofline == pytest.approx(moved(module) / CHIPS["v5p"].bandwidth)
    links = estimate.seconds(module, [collective(600e9)], V5P, flops_per_device=0.0, kernel_flops=0.0)
    assert links.roofline == pytest.approx(1.0)


def test_kernels_add_their_time():
    module = hlo.parse(TEXT)
    without = estimate.seconds(module, [], V5P, 0.0, 0.0).compiler
    with_kernel = estimate.seconds(module, [], V5P, 0.0, kernel_flops=459e12).compiler
    assert with_kernel - without == pytest.approx(1 / estimate.KERNEL_EFFICIENCY)


def test_ten_layers_of_a_scan_take_ten_times_as_long_as_one():
    def layers(count):
        def f(x, w):
            return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)[0]

        args = jnp.zeros((256, 512)), jnp.zeros((count, 512, 512))
        return hlo.parse(jax.jit(f).lower(*args).compile().as_text())

    work = {n: sum(times * work for times, work, _ in estimate.costs(layers(n))) for n in (2, 10)}
    assert work == {2: 2 * 2 * 256 * 512 * 512, 10: 10 * 2 * 256 * 512 * 512}
    times = {n: estimate.compiler_seconds(layers(n), estimate.SPEEDS["v5p"]) for n in (2, 10)}
    assert times[10] == pytest.approx(5 * times[2], rel=0.1)


def test_unknown_devices_have_no_times():
    found = estimate.seconds(hlo.parse(TEXT), [], types.SimpleNamespace(device_kind="cpu"), 1.0, 0.0)
    assert set(dataclasses.asdict(found).values()) == {None}


def test_every_tpu_has_speeds():
    assert set(estimate.SPEEDS) == {kind for kind in CHIPS if not kind.startswith("h")}
