"""Compiles the very step that ``paligax train`` runs, and reads memory, FLOPs, collectives and time from it."""

import dataclasses
import math
import os
import re
import time
from typing import Any

import jax

from paligax.batch import LabelBatch, TextBatch
from paligax.training import flops, state, step, trees
from paligax.training.planning import collectives, estimate, hlo
from paligax.training.planning.topology import Topology, quiet
from paligax.training.trainer import Trainer

GIB = 2**30
# Their number decides the length of three small vectors and nothing else; counting them would import TensorFlow.
NUM_TASKS = 8
_USED = re.compile(r"Used ([\d.]+)([KMGT]?)i?B? of ([\d.]+)([KMGT]?)i?B? hbm", re.IGNORECASE)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Memory:
    """GiB a device; None where a figure does not exist.

    Attributes:
      arguments: state and batch.
      temporaries: what the step needs besides.
      peak: the most at one time, what the state's successor needs beyond its place included.
      capacity: what the device has.
    """

    arguments: float | None
    temporaries: float | None
    peak: float | None
    capacity: float | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is known of a step before it has run; see docs/performance.md for how."""

    topology: str | None
    devices: int
    device_kind: str
    mesh: dict[str, int]
    batch_size: int
    parameters: dict[str, int]
    memory: Memory
    fits: bool
    model_flops: float
    hardware_flops: float
    collectives: tuple[collectives.Collective, ...] | None
    seconds: estimate.Seconds
    peak_flops: float | None
    compile_seconds: float
    notes: tuple[str, ...]

    @property
    def collective_gib(self) -> float | None:
        if self.collectives is None:
            return None
        return sum(c.link_bytes + c.network_bytes for c in self.collectives) / GIB

    @property
    def mfu(self) -> dict[str, float | None]:
        """Model FLOPs ÷ what all devices could do in these seconds."""
        times = dataclasses.asdict(self.seconds)
        whole = None if self.peak_flops is None else self.peak_flops * self.devices
        return {
            name: None if not times[name] or whole is None else self.model_flops / (whole * times[name])
            for name in ("compiler", "roofline", "expected", "worst")
        }

    def as_dict(self) -> dict[str, Any]:
        """What ``--json`` writes: plain numbers, null where a figure does not exist."""
        expected = self.seconds.expected
        return {
            "topology": self.topology,
            "devices": self.devices,
            "device_kind": self.device_kind,
            "mesh": self.mesh,
            "batch_size": self.batch_size,
            "parameters": self.parameters,
            "memory_gib_per_device": dataclasses.asdict(self.memory),
            "fits": self.fits,
            "model_flops_per_step": self.model_flops,
            "hardware_flops_per_step": self.hardware_flops,
            "collective_gib_per_device": self.collective_gib,
            "step_seconds": dataclasses.asdict(self.seconds),
            "mfu": self.mfu,
            "examples_per_second": self.batch_size / expected if expected else None,
            "compile_seconds": self.compile_seconds,
            "notes": list(self.notes),
        }


def plan(trainer: Trainer, topology: str | None = None) -> Plan:
    """Plans one step of a job; nothing is run and no data is opened.

    Args:
      trainer: the job; its partitioner says over how many slices.
      topology: a slice's, like "v4:8x8x16"; None plans for the local devices.

    Raises:
      ValueError: where the topology isn't known, or mesh, rules or batch size don't fit the model.
    """
    slices = trainer.partitioner.slices
    devices = Topology.parse(topology).devices(slices) if topology else jax.devices()
    program = prepare(trainer, devices)
    module, failure = None, ""
    begin = time.perf_counter()
    lowered = step.lower_step(program)
    try:
        with quiet():
            compiled = lowered.compile()
    except Exception as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        failure = str(error)
    compile_seconds = time.perf_counter() - begin
    capacity = _capacity(devices)
    if failure:
        memory, notes, found = _exhausted(failure, capacity), [], None
        fits = False
    else:
        memory = _memory(compiled.memory_analysis(), capacity)
        fits = capacity is None or memory.peak <= capacity
        module = hlo.parse(compiled.as_text())
        found = tuple(collectives.find(module, len(devices), slices))
        notes = [f"{name} counts once: how often it runs isn't known" for name in module.unknown_loops]
    model, hardware = flops.model_flops(program), flops.hardware_flops(program)
    kind = estimate.kind_of(devices[0])
    if module is None:
        seconds = estimate.Seconds(None, None, None, None, None)
    else:
        kernels = flops.hardware_flops(program, kernels_only=True) / len(devices)
        seconds = estimate.seconds(module, list(found), devices[0], hardware / len(devices), kernels)
    if not fits:
        notes.append(advice(trainer, program, memory))
    return Plan(
        topology=topology,
        devices=len(devices),
        device_kind=devices[0].device_kind,
        mesh=dict(program.mesh.shape),
        batch_size=trainer.data.batch_size,
        parameters=_parameters(program),
        memory=memory,
        fits=fits,
        model_flops=model,
        hardware_flops=hardware,
        collectives=found,
        seconds=seconds,
        peak_flops=flops.CHIPS[kind].flops if kind else None,
        compile_seconds=compile_seconds,
        notes=tuple(notes),
    )


def prepare(trainer: Trainer, devices: Any) -> state.Program:
    """The job's program for these devices, as training prepares it, with the batch that its lengths tell."""
    data = trainer.data
    return state.prepare(
        trainer.model,
        trainer.objective,
        trainer.optimizer,
        trainer.partitioner,
        abstract_batch(data),
        treatment_table=trainer.treatments,
        num_tasks=len(data.rates) if getattr(data, "rates", None) else NUM_TASKS,
        num_microbatches=trainer.num_microbatches,
        seed=trainer.seed,
        devices=devices,
    )


def abstract_batch(data: Any) -> TextBatch | LabelBatch:
    """The global batch of ``Data``, from its lengths alone."""
    lengths = data.feature_lengths
    if "labels" in lengths:
        return LabelBatch.abstract(
            batch_size=data.batch_size, resolution=lengths["image"], num_classes=lengths["labels"]
        )
    return TextBatch.abstract(
        batch_size=data.batch_size,
        resolution=lengths["image"],
        input_length=lengths["inputs"],
        target_length=lengths["targets"],
    )


def _parameters(program: state.Program) -> dict[str, int]:
    sizes = {name: math.prod(leaf.shape) for name, leaf in trees.flatten(program.abstract.params).items()}

    def below(root: str) -> int:
        return sum(size for name, size in sizes.items() if name.startswith(f"{root}/"))

    trained = sum(size for name, size in sizes.items() if program.assigned[name].is_trained)
    return {
        "total": sum(sizes.values()),
        "trainable": trained,
        "vision": below("vision"),
        "language": below("language"),
    }


def _memory(analysis: Any, capacity: float | None) -> Memory:
    arguments, temporaries = analysis.argument_size_in_bytes, analysis.temp_size_in_bytes
    new = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return Memory(arguments / GIB, temporaries / GIB, (arguments + temporaries + max(new, 0)) / GIB, capacity)


def _exhausted(message: str, capacity: float | None) -> Memory:
    """What the compiler says of a program that it could not place."""
    if found := _USED.search(message):
        used, of = (float(found[i]) * _UNITS[found[i + 1].upper()] / GIB for i in (1, 3))
        return Memory(None, None, used, of)
    return Memory(None, None, None, capacity)


def _capacity(devices: Any) -> float | None:
    """GiB of one device's memory; of a CPU device its share of the machine's."""
    kind = estimate.kind_of(devices[0])
    if kind:
        return flops.CHIPS[kind].memory / GIB
    if devices[0].platform == "cpu" and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / len(devices) / GIB
    return None


def advice(trainer: Trainer, program: state.Program, memory: Memory) -> str:
    """By how much a step doesn't fit, and what to try, the most effective first."""
    over = "" if memory.peak is None or memory.capacity is None else (
        f" by {memory.peak - memory.capacity:.1f} GiB a device ({memory.peak:.1f} of {memory.capacity:.1f})"
    )  # fmt: skip
    shape = dict(program.mesh.shape)
    described = str(trainer.model)
    try_first = []
    if "remat = 'none'" in described or "remat = 'dots'" in described:
        try_first.append("remat = 'full' of both towers (--gin.ViT.variant.remat=full --gin.MT5.variant.remat=full)")
    rows = trainer.data.batch_size // (shape["data"] * shape["fsdp"] * trainer.num_microbatches)
    if rows > 1:
        try_first.append(
            f"more microbatches (--gin.Trainer.num_microbatches={2 * trainer.num_microbatches}; each holds {rows} rows "
            "a device now)"
        )
    if shape["data"] > 1:
        try_first.append(
            f"a larger fsdp axis: {shape['data']} copies of the state lie on the mesh's data axis "
            f"(--gin.Partitioner.fsdp={shape['fsdp'] * shape['data']})"
        )
    try_first.append(f"a larger tensor axis (--gin.Partitioner.tensor={2 * shape['tensor']})")
    try_first.append("more devices")
    return f"The step does not fit{over}. Try: {'; '.join(try_first)}."
