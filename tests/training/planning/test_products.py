import jax
import jax.numpy as jnp
import pytest

from paligax.training.planning import hlo, products


def total(text):
    module = hlo.parse(text)
    return sum(times * products.flops(module, c, i) for times, c, i in module.runs(into_fusions=False))


def test_products_of_real_programs():
    def f(a, b, c):
        return jnp.tanh(a @ b), jnp.einsum("xij,xjk->xik", c, c)

    a, b, c = jnp.zeros((32, 64)), jnp.zeros((64, 128)), jnp.zeros((5, 16, 16))
    compiled = jax.jit(f).lower(a, b, c).compile()
    assert total(compiled.as_text()) == 2 * 32 * 64 * 128 + 5 * 2 * 16 * 16 * 16


def test_real_convolutions():
    image, kernel = jnp.zeros((2, 16, 16, 3)), jnp.zeros((4, 4, 3, 32))

    def convolve(image, kernel):
        return jax.lax.conv_general_dilated(image, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    compiled = jax.jit(convolve).lower(image, kernel).compile()
    assert total(compiled.as_text()) == 2 * (2 * 4 * 4 * 32) * (4 * 4 * 3)


# How the TPU compiler writes products: (shape, left, right, how) → multiply-adds.
@pytest.mark.parametrize(
    "out, left, right, how, expected",
    [
        ("[8,16]", "[8,32]", "[32,16]", "dim_labels=bf_io->bf", 8 * 16 * 32),
        ("[2,8,16]", "[2,8,32]", "[1,16,32]", "window={size=1}, dim_labels=0bf_0oi->0bf", 2 * 8 * 16 * 32),
        # Heads contracted as a window over the whole axis.
        ("[8,1,16]", "[8,4,32]", "[4,32,16]", "window={size=4}, dim_labels=b0f_0io->b0f", 8 * 16 * 4 * 32),
        # A batch of products: each output meets one element of the kernel.
        (
            "[4,8,16]",
            "[4,8,32]",
            "[4,16,32]",
            "window={size=4 stride=3 lhs_dilate=4}, dim_labels=0bf_0oi->0bf",
            4 * 8 * 16 * 32,
        ),
        # Heads made by a window that slides over padding, reversed.
        (
            "[2,8,4,16]",
            "[2,8,1,32]",
            "[1,4,16,32]",
            "window={size=1x4 pad=0_0x3_3 rhs_reversal=0x1}, dim_labels=0b1f_01oi->0b1f",
            2 * 8 * 4 * 16 * 32,
        ),
    ],
)
def test_products_as_convolutions(out, left, right, how, expected):
    text = f"""\
%fused (l: bf16{left}, r: bf16{right}) -> bf16{out} {{
  %l = bf16{left} parameter(0)
  %r = bf16{right} parameter(1)
  ROOT %c = bf16{out} convolution(%l, %r), {how}
}}

ENTRY %main (x: bf16{left}, y: bf16{right}) -> bf16{out} {{
  %x = bf16{left} parameter(0)
  %y = bf16{right} parameter(1)
  ROOT %f = bf16{out} fusion(%x, %y), kind=kOutput, calls=%fused
}}
"""
    assert total(text) == 2 * expected
