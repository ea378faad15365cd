"""Reads a compiled program's text: instructions, what calls what, and how often everything runs.

XLA's own cost analysis counts the body of a loop once. Here a loop's body counts as often as it runs, which XLA writes
beside the loop ("known_trip_count") or which follows from the loop's condition.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

BITS = {
    "pred": 8, "s2": 2, "u2": 2, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "s32": 32, "u32": 32,
    "s64": 64, "u64": 64, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128, "f4e2m1fn": 4,
    "token": 0, "opaque": 0,
}  # fmt: skip

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{\s*$")
# Not any line that begins with a brace: those of kernels' configurations do, too.
_END = re.compile(r"^\}(, execution_thread=\S*)?\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"([a-z][\w\-]*)\(")
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|called_computations|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)
_BODY = re.compile(r"\bbody=%?([\w.\-]+)")
_CONDITION = re.compile(r"\bcondition=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONSTANT = re.compile(r"constant\((-?\d+)\)")
# Their computations are reductions and the like, applied to elements.
_ELEMENTWISE_CALLERS = ("reduce", "reduce-window", "scatter", "sort", "map", "select-and-scatter", "reduce-scatter")


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of a shape. layout: as XLA writes it, "S(1)" in it is a chip's fast memory."""

    dtype: str
    dimensions: tuple[int, ...]
    layout: str = ""

    @property
    def bytes(self) -> float:
        bits = BITS.get(self.dtype, 8 if self.dtype.startswith("f8") else 32)
        return math.prod(self.dimensions) * bits / 8

    @property
    def in_main_memory(self) -> bool:
        return "S(" not in self.layout


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: ``name = shape opcode(operands), attributes``."""

    name: str
    opcode: str
    shape: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @property
    def bytes(self) -> float:
        return sum(array.bytes for array in self.shape)


@dataclasses.dataclass(frozen=True)
class Computation:
    name: str
    instructions: Mapping[str, Instruction]

    @property
    def root(self) -> Instruction:
        return next((i for i in self.instructions.values() if i.is_root), list(self.instructions.values())[-1])

    def operand_bytes(self, instruction: Instruction) -> float:
        return sum(self.instructions[name].bytes for name in instruction.operands if name in self.instructions)


@dataclasses.dataclass(frozen=True)
class Module:
    """A program: its computations by name, and which of them is the program itself."""

    computations: Mapping[str, Computation]
    entry: str

    @functools.cached_property
    def unknown_loops(self) -> tuple[str, ...]:
        """Loops whose trip count could not be read: they count once."""
        loops = (i for c in self.computations.values() for i in c.instructions.values() if i.opcode == "while")
        return tuple(i.name for i in loops if self.trips(i) is None)

    def trips(self, loop: Instruction) -> int | None:
        """How often a ``while`` runs, None where that can't be read."""
        if known := _TRIPS.search(loop.attributes):
            return int(known[1])
        condition = _CONDITION.search(loop.attributes)
        found = self.computations.get(condition[1]) if condition else None
        if found is None:
            return None
        # The condition of a scan is `counter < constant` with a counter that starts at 0.
        bounds = [int(m[1]) for c in self._with_called(found) for i in c.instructions.values()
                  if i.opcode == "constant" and (m := _CONSTANT.search(i.attributes))]  # fmt: skip
        compares = [i for c in self._with_called(found) for i in c.instructions.values() if i.opcode == "compare"]
        if len(bounds) == 1 and len(compares) == 1 and "direction=LT" in compares[0].attributes:
            return max(bounds[0], 0)
        return None

    def _with_called(self, computation: Computation) -> Iterator[Computation]:
        yield computation
        for instruction in computation.instructions.values():
            for name in _called(instruction):
                if name in self.computations:
                    yield from self._with_called(self.computations[name])

    def runs(self, into_fusions: bool) -> Iterator[tuple[float, Computation, Instruction]]:
        """(how often it runs, its computation, instruction) for all that one call of the program executes.

        Args:
          into_fusions: whether the insides of fusions are given as well, or fusions as single instructions.
        """
        yield from self._runs(self.entry, 1.0, into_fusions)

    def _runs(self, name: str, times: float, into_fusions: bool) -> Iterator[tuple[float, Computation, Instruction]]:
        computation = self.computations[name]
        for instruction in computation.instructions.values():
            yield times, computation, instruction
            if instruction.opcode == "while":
                yield from self._runs(_BODY.search(instruction.attributes)[1], times * (self.trips(instruction) or 1),
                                      into_fusions)  # fmt: skip
            elif instruction.opcode == "fusion" and not into_fusions:
                continue
            elif instruction.opcode.endswith(("-done", "-update")) or instruction.opcode in _ELEMENTWISE_CALLERS:
                continue
            elif instruction.opcode.startswith(("all-reduce", "reduce-scatter")):
                continue
            else:
                for called in _called(instruction):
                    if called in self.computations:
                        yield from self._runs(called, times, into_fusions)


def _called(instruction: Instruction) -> list[str]:
    found = []
    for match in _CALLED.finditer(instruction.attributes):
        found += re.findall(r"[\w.\-]+", match[1])
    return found


def parse(text: str) -> Module:
    """A program as ``compiled.as_text()`` gives it.

    Raises:
      ValueError: where there is no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, name, lines = "", "", {}
    for line in text.splitlines():
        if name:
            if _END.match(line):
                computations[name] = Computation(name, lines)
                name = ""
            elif match := _INSTRUCTION.match(line):
                instruction = _instruction(match[2], match[3], bool(match[1]))
                lines[instruction.name] = instruction
        elif not line.startswith(("HloModule", " ")) and (match := _COMPUTATION.match(line)):
            name, lines = match[2], {}
            entry = name if match[1] else entry
    if not entry:
        raise ValueError("This is no text of a compiled program: it has no ENTRY computation.")
    return Module(computations, entry)


def _instruction(name: str, rest: str, is_root: bool) -> Instruction:
    shape, after = _cut_shape(rest)
    match = _OPCODE.search(rest, after)
    opcode, begin = (match[1], match.end()) if match else ("", after)
    end = _closing(rest, begin)
    operands = tuple(_NAME.findall(rest[begin:end])) if opcode != "constant" else ()
    attributes = rest[match.start() :] if opcode in ("constant", "parameter") else rest[end:]
    return Instruction(name, opcode, shape, operands, attributes, is_root)


def _cut_shape(rest: str) -> tuple[tuple[Array, ...], int]:
    """The arrays of the shape that a line begins with, and where it ends."""
    end = rest.index(" ") if not rest.startswith("(") else _closing(rest, 1)
    arrays = []
    for dtype, dimensions, layout in _SHAPE.findall(rest[:end]):
        sizes = tuple(int(d.removeprefix("<=")) for d in dimensions.split(",") if d)
        arrays.append(Array(dtype, sizes, layout))
    return tuple(arrays), end


def _closing(text: str, begin: int) -> int:
    """Index of the parenthesis that closes the one before ``begin``."""
    depth = 1
    for match in re.compile(r"[()]").finditer(text, begin):
        depth += 1 if match[0] == "(" else -1
        if not depth:
            return match.start()
    return len(text)
