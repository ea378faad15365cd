"""What a run remembers, where each of its arrays lives, and what is decided before anything is computed."""

import dataclasses
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from paligax import models
from paligax.training import partitioning, treatments, trees
from paligax.training.objectives import Objective
from paligax.training.optimizers import Optimizer
from paligax.training.partitioning import Partitioner


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """Everything that a step changes. Random numbers and the place in the data follow from the step.

    Attributes:
      step: int32 scalar, number of updates done.
      params: nested dict of the model's parameters, frozen ones included.
      optimizer: the optimizer's state over the trained parameters.
    """

    step: Any
    params: Any
    optimizer: Any


def random_key(seed: int, name: str, step: Any) -> Any:
    """The key of one use at one step: never stored, the same after any number of restarts."""
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
    return jax.random.fold_in(key, step)


@dataclasses.dataclass(frozen=True)
class Program:
    """A run with every decision taken and nothing computed: training, restoring and ahead-of-time compilation share it.

    Attributes:
      module: the model.
      objective: see :mod:`paligax.training.objectives`.
      optimizer: see :mod:`paligax.training.optimizers`.
      assigned: parameter name → treatment.
      axes: nested dict of the parameters' logical axes.
      mesh: the devices.
      abstract: State of ``jax.ShapeDtypeStruct`` with shardings.
      abstract_batch: global batch of ``jax.ShapeDtypeStruct`` with shardings.
      notes: lines on what the partitioner left uncut.
      num_tasks: number of tasks whose losses are kept apart.
      num_microbatches: parts in which a batch is worked through.
      seed: of initialisation and dropout.
      skip_non_finite: whether an update whose loss or gradient isn't finite is left out.
    """

    module: Any
    objective: Objective
    optimizer: Optimizer
    assigned: dict[str, treatments.Treatment]
    axes: dict[str, Any]
    mesh: Mesh
    abstract: State
    abstract_batch: Any
    notes: tuple[str, ...]
    num_tasks: int
    num_microbatches: int
    seed: int
    skip_non_finite: bool = False

    @property
    def shardings(self) -> State:
        return jax.tree.map(lambda leaf: leaf.sharding, self.abstract)

    def transformation(self) -> Any:
        """The optimizer's transformation over the trained parameters."""
        return self.optimizer.transformation(treatments.split(self.axes, self.assigned)[0])

    def initial_state(self) -> State:
        """Freshly initialised and sharded; the same values on every mesh."""
        # It runs once: on CPUs three quarters of its compile time are optimisations.
        options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}
        return jax.jit(self._initial, out_shardings=self.shardings, compiler_options=options)()

    def _initial(self) -> State:
        params = _initial_params(self.module, self.objective, self.abstract_batch, self.seed)
        params = models.unbox(params)
        trained, _ = treatments.split(params, self.assigned)
        return State(jnp.zeros((), jnp.int32), params, self.transformation().init(trained))


def _initial_params(module: Any, objective: Objective, abstract_batch: Any, seed: int) -> Any:
    """Parameters in their boxes, from one row of zeros."""
    row = jax.tree.map(lambda leaf: jnp.zeros((1, *leaf.shape[1:]), leaf.dtype), abstract_batch)
    return module.init(random_key(seed, "init", 0), *objective.example_args(row))["params"]


def prepare(
    module: Any,
    objective: Objective,
    optimizer: Optimizer,
    partitioner: Partitioner,
    abstract_batch: Any,
    *,
    treatment_table: treatments.Table = treatments.TRAIN_ALL,
    num_tasks: int = 1,
    num_microbatches: int = 1,
    seed: int = 0,
    devices: Any = None,
    skip_non_finite: bool = False,
) -> Program:
    """Takes every decision: shapes → axes → treatments → shardings, all without touching an array.

    Args:
      module: the model.
      objective: turns model and batch into a loss.
      optimizer: turns gradients into updates.
      partitioner: mesh and rules.
      abstract_batch: the **global** batch as ``jax.ShapeDtypeStruct``.
      treatment_table: regex → treatment.
      num_tasks: length of the per-task sums.
      num_microbatches: parts in which a batch is worked through.
      seed: of initialisation and dropout.
      devices: to compile for; all by default. They may be those of a topology that isn't there.
      skip_non_finite: leaves the state as it is (but for the step) where loss or gradient isn't finite.

    Raises:
      ValueError: where treatments, rules, mesh or batch size don't fit the model.
    """
    mesh = partitioner.mesh(devices)
    partitioning.check_batch_size(mesh, abstract_batch.size, num_microbatches)
    boxed = jax.eval_shape(lambda: _initial_params(module, objective, abstract_batch, seed))
    axes, shapes = models.logical_axes(boxed), models.unbox(boxed)
    assigned = treatments.assign(treatment_table, list(trees.flatten(shapes)))
    param_shardings, notes = partitioner.shardings(mesh, axes, shapes)

    trained_axes, _ = treatments.split(axes, assigned)
    trained_shapes, _ = treatments.split(shapes, assigned)
    optimizer_shapes = jax.eval_shape(optimizer.transformation(trained_axes).init, trained_shapes)
    optimizer_axes = optimizer.state_axes(trained_axes, trained_shapes)
    shardings = State(
        partitioning.replicated(mesh),
        param_shardings,
        partitioner.state_shardings(mesh, optimizer_axes, optimizer_shapes),
    )
    abstract = State(jax.ShapeDtypeStruct((), jnp.int32), shapes, optimizer_shapes)
    rows = partitioning.batch_sharding(mesh)
    return Program(
        module=module,
        objective=objective,
        optimizer=optimizer,
        assigned=assigned,
        axes=axes,
        mesh=mesh,
        abstract=jax.tree.map(_with_sharding, abstract, shardings),
        abstract_batch=jax.tree.map(lambda leaf: _with_sharding(leaf, rows), abstract_batch),
        notes=tuple(notes),
        num_tasks=num_tasks,
        num_microbatches=num_microbatches,
        seed=seed,
        skip_non_finite=skip_non_finite,
    )


def _with_sharding(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def model_info(program: Program) -> str:
    """The text of model-info.txt: shape, dtype, logical axes, mesh axes and treatment of every parameter."""
    axes = trees.flatten(program.axes)
    lines = [f"mesh {dict(program.mesh.shape)}", ""]
    total = state_bytes = 0
    for name, leaf in trees.flatten(program.abstract.params).items():
        size = int(np.prod(leaf.shape))
        total += size
        shape = "×".join(map(str, leaf.shape)) or "scalar"
        logical = ", ".join(str(a) for a in axes[name])
        treatment = program.assigned[name]
        lines.append(f"{name:<56} {shape:<20} {leaf.dtype!s:<9} ({logical})  {tuple(leaf.sharding.spec)}  {treatment}")
    for leaf in jax.tree.leaves(program.abstract.optimizer):
        state_bytes += int(np.prod(leaf.shape)) * leaf.dtype.itemsize
    lines += ["", f"{total:,} parameters; optimizer state {state_bytes / 2**20:,.1f} MiB"]
    return "\n".join([*lines, *(f"note: {note}" for note in program.notes)]) + "\n"
