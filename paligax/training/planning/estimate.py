"""How long a step takes, from the compiled program alone: what the compiler expects, and bounds beside it.

The method, and what it was compared with: docs/performance.md.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

from paligax.training.flops import CHIPS, DEVICE_KINDS
from paligax.training.planning import products
from paligax.training.planning.collectives import Collective
from paligax.training.planning.hlo import Array, Computation, Instruction, Module

# A hand-written kernel's share of the peak: an assumption, as nobody's estimate sees into it.
KERNEL_EFFICIENCY = 0.5
# What this module's sum is of the compiler's own ("optimal_seconds") on programs without loops.
OF_COMPILER = 0.89


@dataclasses.dataclass(frozen=True)
class Speed:
    """What the compiler believes one device does in a second, and how that compares with what was measured.

    Attributes:
      flops: of matrix products.
      bandwidth: bytes from and to its own memory.
      calibration: the compiler's seconds ÷ measured ones.
      links: bytes over its links in all directions together (vendors' figures).
      network: bytes over the data-centre network between slices (vendors' figures).
    """

    flops: float
    bandwidth: float
    calibration: float
    links: float
    network: float


SPEEDS = {
    "v4": Speed(274e12, 0.98e12, 0.73, 300e9, 6.25e9),
    "v5e": Speed(197e12, 0.74e12, 0.90, 200e9, 3.125e9),
    "v5p": Speed(394e12, 2.35e12, 0.95, 600e9, 6.25e9),
    "v6e": Speed(918e12, 1.64e12, 0.54, 400e9, 12.5e9),
    "tpu7x": Speed(996e12, 3.69e12, 0.90, 300e9, 6.25e9),  # never compared with a measurement
}


def kind_of(device: Any) -> str | None:
    """Name in CHIPS of a device, None where it is not known."""
    return DEVICE_KINDS.get(device.device_kind)


@dataclasses.dataclass(frozen=True)
class Seconds:
    """Of one step; None where a figure does not exist.

    Attributes:
      compiler: all that devices compute and move in their own memory, counted as the TPU compiler does, calibrated.
      collectives: bytes over the links ÷ their bandwidth.
      roofline: the largest of FLOPs, memory's bytes and links' bytes, each at its peak.
      expected: the larger of compiler and collectives: all communication is hidden.
      worst: their sum: none is.
    """

    compiler: float | None
    collectives: float | None
    roofline: float | None
    expected: float | None
    worst: float | None


def seconds(
    module: Module, collectives: list[Collective], device: Any, flops_per_device: float, kernel_flops: float
) -> Seconds:
    """See :class:`Seconds`.

    Args:
      module: the compiled program.
      collectives: of it.
      device: one of those it was compiled for.
      flops_per_device: of matrix products, recomputed ones included.
      kernel_flops: the part of them in hand-written kernels, a device.
    """
    kind = kind_of(device)
    if kind is None:
        return Seconds(None, None, None, None, None)
    chip, speed = CHIPS[kind], SPEEDS.get(kind)
    moved = sum(times * moved for times, _, moved in costs(module))
    memory = moved / chip.bandwidth
    if speed is None:
        single = not collectives
        return Seconds(None, 0.0 if single else None, max(flops_per_device / chip.flops, memory), None, None)
    sent = sum(c.link_bytes for c in collectives) / speed.links
    sent += sum(c.network_bytes for c in collectives) / speed.network
    roofline = max(flops_per_device / chip.flops, memory, sent)
    computed = compiler_seconds(module, speed) + kernel_flops / (chip.flops * KERNEL_EFFICIENCY)
    return Seconds(computed, sent, roofline, max(computed, sent), computed + sent)


def compiler_seconds(module: Module, speed: Speed) -> float:
    """The compiler's way of counting, with every loop's body as often as it runs: the sum over all operations of the
    longer of computing and moving, corrected and divided by its calibration."""
    total = sum(times * max(work / speed.flops, moved / speed.bandwidth) for times, work, moved in costs(module))
    return total / OF_COMPILER / speed.calibration


_FREE = (
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier"),
    *("while", "conditional", "call", "partition-id", "replica-id"),
)


def costs(module: Module) -> Iterator[tuple[float, float, float]]:
    """(how often it runs, FLOPs, bytes read from and written to main memory) of every operation of a step.

    A fusion reads its operands once and writes its result once; of what it only slices, it reads the slice.
    """
    for times, computation, instruction in module.runs(into_fusions=False):
        opcode = instruction.opcode
        if opcode in _FREE or opcode.endswith(("-done", "-update")):
            continue
        if opcode.endswith("-start") and not opcode.startswith(("copy", "slice")):
            continue  # what a collective writes is counted where it is read
        work = products.flops(module, computation, instruction)
        yield times, work, _moved(module, computation, instruction)


def _moved(module: Module, computation: Computation, instruction: Instruction) -> float:
    inner = None
    if instruction.opcode == "fusion" and (called := re.search(r"calls=%?([\w.\-]+)", instruction.attributes)):
        inner = module.computations.get(called[1])
    read = 0.0
    for position, name in enumerate(instruction.operands):
        operand = computation.instructions.get(name)
        if operand is None:
            continue
        whole = _in_memory(operand.shape)
        read += min(whole, _sliced(inner, position)) if inner else whole
    if instruction.opcode in ("dynamic-slice", "slice", "gather"):
        return 2 * _in_memory(instruction.shape)
    if instruction.opcode == "dynamic-update-slice":
        update = computation.instructions.get(instruction.operands[1])
        return 2 * _in_memory(update.shape) if update else 0.0
    if instruction.opcode.endswith(
        "-start"
    ):  # from one memory to the other, or of a slice: source and target come first
        ends = instruction.shape[:2]
        return min(array.bytes for array in ends) * sum(array.in_main_memory for array in ends)
    written = _written(inner, instruction.shape) if inner else _in_memory(instruction.shape)
    return read + written


def _written(inner: Computation, shape: tuple[Array, ...]) -> float:
    """Bytes that a fusion writes: of an array that it updates in place, the part that is new."""
    root, total = inner.root, 0.0
    results = [inner.instructions[name] for name in root.operands] if root.opcode == "tuple" else [root]
    if len(results) != len(shape):
        return _in_memory(shape)
    for result, array in zip(results, shape, strict=True):
        while result.opcode == "bitcast" and result.operands:
            result = inner.instructions[result.operands[0]]
        if result.opcode == "dynamic-update-slice":
            result = inner.instructions[result.operands[1]]
        total += min(array.bytes, result.bytes) if array.in_main_memory else 0.0
    return total


def _sliced(inner: Computation, position: int) -> float:
    """Bytes that a fusion reads of a parameter: no more than what its slices take; infinite where it takes all."""
    parameter = next(
        (
            i
            for i in inner.instructions.values()
            if i.opcode == "parameter" and f"parameter({position})" in i.attributes
        ),
        None,
    )
    users = [i for i in inner.instructions.values() if parameter and parameter.name in i.operands]
    if not users:
        return math.inf
    taken = 0.0
    for user in users:
        if user.opcode in ("dynamic-slice", "slice", "gather"):
            taken += user.bytes
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == parameter.name:
            taken += 0.0
        else:
            return math.inf
    return taken


def _in_memory(shape: tuple[Array, ...]) -> float:
    return sum(array.bytes for array in shape if array.in_main_memory)
