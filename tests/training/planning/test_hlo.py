import jax
import jax.numpy as jnp
import pytest

from paligax.training.planning import hlo

# As the TPU compiler writes it: layouts with tiles and memory spaces, a loop without a known trip count.
TEXT = """\
HloModule jit_f, is_scheduled=true

%condition (state.1: (s32[], f32[8,128])) -> pred[] {
  %state.1 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %counter.1 = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  %limit = s32[]{:T(128)} constant(7)
  ROOT %less = pred[] compare(%counter.1, %limit), direction=LT
}

%body (state.2: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %state.2 = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %counter.2 = s32[]{:T(128)} get-tuple-element(%state.2), index=0
  %value = f32[8,128]{1,0:T(8,128)} get-tuple-element(%state.2), index=1
  %tanh = f32[8,128]{1,0:T(8,128)S(1)} tanh(%value), backend_config={"window_config":{"estimated_cycles":"100"}}
  ROOT %next = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%counter.2, %tanh)
}

ENTRY %main (x: f32[8,128]) -> f32[8,128] {
  %x = f32[8,128]{1,0:T(8,128)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %start = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) tuple(%zero, %x)
  %loop = (s32[]{:T(128)}, f32[8,128]{1,0:T(8,128)}) while(%start), condition=%condition, body=%body
  ROOT %out = f32[8,128]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
"""


def test_shapes_operands_and_memory_spaces_are_read():
    module = hlo.parse(TEXT)
    assert module.entry == "main" and set(module.computations) == {"condition", "body", "main"}
    body = module.computations["body"]
    tanh = body.instructions["tanh"]
    assert (tanh.opcode, tanh.operands, tanh.bytes) == ("tanh", ("value",), 8 * 128 * 4)
    assert not tanh.shape[0].in_main_memory and body.instructions["value"].shape[0].in_main_memory
    assert body.operand_bytes(tanh) == 8 * 128 * 4 and body.root.name == "next"
    assert [array.dimensions for array in body.root.shape] == [(), (8, 128)]


def test_a_loops_length_follows_from_its_condition():
    module = hlo.parse(TEXT)
    assert [times for times, _, i in module.runs(into_fusions=True) if i.opcode == "tanh"] == [7.0]
    assert not module.unknown_loops
    unclear = hlo.parse(TEXT.replace("direction=LT", "direction=NE"))
    assert unclear.unknown_loops == ("loop",)
    assert [times for times, _, i in unclear.runs(into_fusions=True) if i.opcode == "tanh"] == [1.0]


def test_scans_of_real_programs_run_as_often_as_they_say():
    def f(x, w):
        def outer(x, w):
            return jax.lax.scan(lambda x, _: (jnp.sin(x @ w), None), x, None, length=3)[0], None

        return jax.lax.scan(outer, x, w)[0]

    compiled = jax.jit(f).lower(jnp.zeros((64, 64)), jnp.zeros((10, 64, 64))).compile()
    module = hlo.parse(compiled.as_text())
    assert not module.unknown_loops
    dots = [(times, i) for times, _, i in module.runs(into_fusions=True) if i.opcode == "dot"]
    assert sum(times for times, _ in dots) == 30
    assert dots[0][1].shape[0].dimensions == (64, 64)


def test_a_kernels_configuration_may_have_lines_of_its_own():
    text = """\
ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %kernel = f32[4]{0} custom-call(%x), custom_call_target="tpu_custom_call", backend_config={"metadata":{
"blocks":"{\\"q\\": 896}"
}}, metadata={op_name="jit(f)/attention"}
  ROOT %y = f32[4]{0} negate(%kernel)
}, execution_thread="main"
"""
    assert list(hlo.parse(text).computations["main"].instructions) == ["x", "kernel", "y"]


@pytest.mark.parametrize("dtype, size", [("bf16[3,5]{1,0}", 30), ("pred[]", 1), ("u4[8]{0}", 4), ("f8e4m3fn[6]", 6)])
def test_sizes_of_arrays(dtype, size):
    module = hlo.parse(f"ENTRY %m (a: {dtype}) -> {dtype} {{\n  ROOT %a = {dtype} parameter(0)\n}}\n")
    assert module.computations["m"].root.bytes == size


def test_something_else_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("module @jit_f {}")
