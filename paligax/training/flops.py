"""Model FLOPs, counted on the jaxpr of the loss's gradient, and the peaks they are compared with.

Every ``dot_general`` and convolution counts 2 · multiply-adds, times the lengths of the scans around it. The
gradient is taken with respect to the trained parameters only and without rematerialisation: what the mathematics asks
for, not what was spent.
"""

import dataclasses
import math
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr

from paligax import models
from paligax.training import step, treatments
from paligax.training.state import Program


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peaks of one device. bf16 FLOP/s, bytes of memory, bytes/s of memory bandwidth (vendors' figures)."""

    flops: float
    memory: float
    bandwidth: float


CHIPS = {
    "v4": Chip(275e12, 32 * 2**30, 1228e9),
    "v5e": Chip(197e12, 16 * 2**30, 819e9),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9),
    "v6e": Chip(918e12, 32 * 2**30, 1640e9),
    "tpu7x": Chip(1153.5e12, 96 * 2**30, 3690e9),  # a device is half a chip
    "h100": Chip(989e12, 80 * 2**30, 3350e9),
    "h200": Chip(989e12, 141 * 2**30, 4800e9),
}

# What jax calls them.
DEVICE_KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "TPU7x": "tpu7x",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
}


def peak_flops(device: Any) -> float | None:
    """bf16 FLOP/s of a device, or None where it isn't known (CPUs): then there is no MFU unless a peak was measured."""
    name = DEVICE_KINDS.get(device.device_kind)
    return CHIPS[name].flops if name else None


def count(jaxpr: Any, kernels_only: bool = False) -> float:
    """FLOPs of the matrix products and convolutions of a jaxpr, those inside loops and calls included.

    The longest branch of a ``cond`` counts; the body of a ``while`` counts once, as its trip count is not known.

    Args:
      jaxpr: of ``jax.make_jaxpr``.
      kernels_only: whether those alone count that stand in hand-written kernels.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if kernels_only and name in ("dot_general", "conv_general_dilated"):
            continue
        if name == "dot_general":
            (lhs_contracting, _), _ = params["dimension_numbers"]
            contracted = math.prod(equation.invars[0].aval.shape[i] for i in lhs_contracting)
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * contracted
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / out_features
        elif name == "cond":
            total += max(count(branch.jaxpr, kernels_only) for branch in params["branches"])
        else:
            times = params["length"] if name == "scan" else 1
            if name == "shard_map":  # its shapes are those of one device
                times = params["mesh"].size
            elif name == "pallas_call":  # its shapes are those of one step of its grid
                times = math.prod(params["grid_mapping"].grid)
            inside = kernels_only and name != "pallas_call"
            total += times * sum(count(inner, inside) for inner in _inner(params))
    return total


def _inner(params: dict[str, Any]) -> list[Any]:
    """The jaxprs among an equation's parameters, each once."""
    found = []
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                found.append(item.jaxpr)
            elif isinstance(item, Jaxpr):
                found.append(item)
    return found


def without_remat(module: Any) -> Any:
    """The same model keeping all activations, attention scores included."""
    kept = {"remat": "none", "attention_form": "dense"}

    def change(description: Any) -> Any:
        if not isinstance(description, dict):
            return description
        return {k: kept.get(k, change(v)) for k, v in description.items()}

    return models.build(change(models.describe(module)))


def model_flops(program: Program) -> float:
    """FLOPs that one step of this program needs: forward, and backward to the trained parameters."""
    trained, frozen = treatments.split(program.abstract.params, program.assigned)
    module = without_remat(program.module)

    def loss(trained: Any, frozen: Any, batch: Any) -> Any:
        params = treatments.merge(trained, frozen)
        return program.objective.sums(module, params, batch, {}, program.num_tasks)[0]

    return count(jax.make_jaxpr(jax.grad(loss))(trained, frozen, program.abstract_batch).jaxpr)


def hardware_flops(program: Program, kernels_only: bool = False) -> float:
    """FLOPs that one step of this program spends: what is computed again in the backward pass included.

    Args:
      program: the job.
      kernels_only: whether those alone count that stand in hand-written kernels.
    """
    jaxpr = jax.make_jaxpr(lambda state, batch: step.gradients(program, state, batch))
    return count(jaxpr(program.abstract, program.abstract_batch).jaxpr, kernels_only)
