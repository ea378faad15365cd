"""FLOPs of the matrix products and convolutions of a compiled program, instruction by instruction."""

import functools
import math
import re

import numpy as np

from paligax.training.planning.hlo import Computation, Instruction, Module

_DIMS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
_CONTRACTING = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_WINDOW = re.compile(r"window=\{([^}]*)\}")


def flops(module: Module, computation: Computation, instruction: Instruction) -> float:
    """2 · multiply-adds of one instruction, all that a fusion calls included."""
    if instruction.opcode == "convolution":
        return _convolution(computation, instruction)
    if instruction.opcode == "dot":
        return _dot(computation, instruction)
    if instruction.opcode == "fusion" and (called := re.search(r"calls=%?([\w.\-]+)", instruction.attributes)):
        return _all(module, called[1])
    return 0.0


def _all(module: Module, name: str) -> float:
    inner = module.computations.get(name)
    return sum(flops(module, inner, i) for i in inner.instructions.values()) if inner else 0.0


def _dot(computation: Computation, instruction: Instruction) -> float:
    left = computation.instructions[instruction.operands[0]].shape[0].dimensions
    found = _CONTRACTING.search(instruction.attributes)
    contracted = [left[int(axis)] for axis in found[1].split(",") if axis] if found else []
    return 2.0 * math.prod(instruction.shape[0].dimensions) * math.prod(contracted)


def _convolution(computation: Computation, instruction: Instruction) -> float:
    """A product on TPUs is a convolution whose batch dimensions are spatial, with windows that hit one element each."""
    labels = _DIMS.search(instruction.attributes)
    left, kernel = (computation.instructions[name].shape[0].dimensions for name in instruction.operands[:2])
    out = instruction.shape[0].dimensions
    lhs, rhs, result = labels.groups()
    features = kernel[rhs.index("i")]
    spatial = [label for label in result if label.isdigit()]
    window = _window(instruction.attributes, len(spatial))
    total = 2.0 * features * out[result.index("b")] * out[result.index("f")]
    for axis, label in enumerate(spatial):
        total *= _pairs(left[lhs.index(label)], kernel[rhs.index(label)], out[result.index(label)], *window[axis])
    return total


def _window(attributes: str, number: int) -> list[tuple[int, int, int, int]]:
    """(stride, padding before, dilation of the input, of the kernel) of each spatial axis."""
    found = _WINDOW.search(attributes)
    words = dict(word.split("=", 1) for word in found[1].split()) if found else {}

    def numbers(name: str, default: int) -> list[int]:
        return [int(part.split("_")[0]) for part in words[name].split("x")] if name in words else [default] * number

    columns = (numbers("stride", 1), numbers("pad", 0), numbers("lhs_dilate", 1), numbers("rhs_dilate", 1))
    return list(zip(*columns, strict=True))


@functools.lru_cache(maxsize=4096)
def _pairs(size: int, kernel: int, out: int, stride: int, pad: int, dilation: int, kernel_dilation: int) -> float:
    """Pairs of an output's and a kernel's position between which an element of the input lies."""
    at = np.arange(out)[:, None] * stride + np.arange(kernel) * kernel_dilation - pad
    return float(((at >= 0) & (at <= (size - 1) * dilation) & (at % dilation == 0)).sum())
