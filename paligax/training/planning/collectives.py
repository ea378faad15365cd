"""What a compiled program sends between devices: bytes over the links of each, loops counted by their trip counts."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from paligax.training.planning.hlo import Computation, Instruction, Module

KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast",
         "ragged-all-to-all")  # fmt: skip
_IOTA = re.compile(r"replica_groups=\[(\d+),(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_LISTS = re.compile(r"replica_groups=\{(\{[\d,{} ]*\})\}")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\](?:, ?device_ids=\(([^)]*)\))? ?\{([^}]*)\}")
_PAIRS = re.compile(r"source_target_pairs=\{([\d,{} ]*)\}")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One collective of a program.

    Attributes:
      kind: of KINDS; "reduce-scatter" also where the compiler fuses an all-reduce with the cut that follows.
      name: of its instruction.
      source: the operation of the model that it comes from, "" where that is not known.
      operand_bytes: what one device puts in.
      group: devices that take part together.
      slices: slices that they lie on.
      times: how often it runs in a step.
    """

    kind: str
    name: str
    source: str
    operand_bytes: float
    group: int
    slices: int
    times: float

    @property
    def whole_bytes(self) -> float:
        """Size of the array that the whole group holds together (all-gather: its result)."""
        return self.operand_bytes * (self.group if self.kind == "all-gather" else 1)

    def _received(self, operand: float, group: int) -> float:
        """Bytes that one of a ring of ``group`` devices receives."""
        if group <= 1:
            return 0.0
        share = (group - 1) / group
        return {
            "all-gather": operand * (group - 1),
            "all-reduce": 2 * operand * share,
            "reduce-scatter": operand * share,
            "all-to-all": operand * share,
            "ragged-all-to-all": operand * share,
        }.get(self.kind, operand)

    @property
    def link_bytes(self) -> float:
        """Bytes a device receives over the links inside its slice, in all runs."""
        within = self.group // self.slices
        if self.slices > 1 and self.kind.startswith("collective"):
            return 0.0
        operand = self.operand_bytes * (self.slices if self.kind == "all-gather" else 1)
        return self.times * self._received(operand, within)

    @property
    def network_bytes(self) -> float:
        """Bytes a device receives from other slices, in all runs: each sends its part of its slice's result."""
        if self.slices == 1:
            return 0.0
        within = 1 if self.kind.startswith(("collective", "all-gather")) else self.group // self.slices
        return self.times * self._received(self.operand_bytes / within, self.slices)


def find(module: Module, devices: int, slices: int = 1) -> list[Collective]:
    """Every collective that a step runs.

    Args:
      module: the compiled program.
      devices: on which it runs.
      slices: equal parts of them, in order, that the data-centre network joins.
    """
    found = []
    for times, computation, instruction in module.runs(into_fusions=True):
        kind = instruction.opcode.removesuffix("-start")
        if kind not in KINDS:
            continue
        if kind == "all-reduce" and _is_cut(computation, instruction):
            kind = "reduce-scatter"
        group, spread = _group(instruction.attributes, devices, slices)
        source = re.search(r'op_name="([^"]*)"', instruction.attributes)
        operand = computation.operand_bytes(instruction)
        found.append(Collective(kind, instruction.name, source[1] if source else "", operand, group, spread, times))
    return found


def totals(collectives: Sequence[Collective]) -> dict[str, float]:
    """Kind → bytes a device receives, over links and network."""
    sums: Counter[str] = Counter()
    for one in collectives:
        sums[one.kind] += one.link_bytes + one.network_bytes
    return dict(sums)


def _is_cut(computation: Computation, reduced: Instruction) -> bool:
    """Whether each device keeps its own part only of what an all-reduce gives."""
    if computation.name.startswith("all-reduce-scatter"):
        return True
    users = [i for i in computation.instructions.values() if reduced.name in i.operands]
    return len(users) == 1 and users[0].opcode == "dynamic-slice" and users[0].is_root


def _group(attributes: str, devices: int, slices: int) -> tuple[int, int]:
    """(devices that take part together, slices that they lie on)."""
    each = max(1, devices // slices)
    if match := _PAIRS.search(attributes):
        pairs = [tuple(map(int, p)) for p in re.findall(r"\{(\d+),(\d+)\}", match[1])]
        return 2, 1 + any(a // each != b // each for a, b in pairs)
    members = next(_members(attributes, devices), range(devices))
    return len(members), len({member // each for member in members})


def _members(attributes: str, devices: int) -> Iterator[Sequence[int]]:
    """The first group, in whichever of XLA's three ways it is written; none where all devices are meant."""
    if match := _IOTA.search(attributes):
        dims = [int(d) for d in match[3].split(",")]
        ids = np.arange(math.prod(dims)).reshape(dims)
        if match[4]:
            ids = ids.transpose([int(axis) for axis in match[4].split(",")])
        yield ids.reshape(int(match[1]), int(match[2]))[0].tolist()
    elif match := _MESH.search(attributes):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", match[1])}
        ids = np.arange(math.prod(sizes.values())).reshape(list(sizes.values()))
        taken = []
        for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", match[3]):
            index = list(sizes).index(name)
            # A part of an axis: `before` devices stand in front of it, `size` take part.
            step = sizes[name] // (int(before) * int(size)) if size else 1
            taken.append((index, step, int(size) if size else sizes[name]))
        picked = ids
        for index, step, size in taken:
            picked = np.take(picked, np.arange(size) * step, axis=index)
        others = [i for i in range(ids.ndim) if i not in [index for index, _, _ in taken]]
        for index in others:
            picked = np.take(picked, [0], axis=index)
        yield picked.reshape(-1).tolist()
    elif match := _LISTS.search(attributes):
        first = re.search(r"\{([\d, ]+)\}", match[1])
        if first:
            yield [int(member) for member in first[1].split(",")]
