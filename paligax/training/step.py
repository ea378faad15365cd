"""One step of training: the science (:func:`train_step`), then the plumbing that compiles it (:func:`compile_step`)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from paligax.training import partitioning, treatments, trees
from paligax.training.state import Program, State, random_key

Metrics = dict[str, Any]


def gradients(program: Program, state: State, batch: Any) -> tuple[Any, Metrics]:
    """Gradients of the batch's mean loss with respect to the trained parameters, and its loss metrics.

    Losses, weights and gradients are summed over microbatches and divided once, so that their number changes nothing
    however unevenly the target tokens fall on them.
    """
    trained, frozen = treatments.split(state.params, program.assigned)
    key = random_key(program.seed, "dropout", state.step)

    def sums(trained: Any, rows: Any, index: Any) -> tuple[Any, Any]:
        params = treatments.merge(trained, frozen)
        rngs = {"dropout": jax.random.fold_in(key, index)}
        loss, weight, per_task = program.objective.sums(program.module, params, rows, rngs, program.num_tasks)
        return loss, {"loss": loss, "weight": weight, "task": per_task}

    def accumulate(total: Any, part: Any) -> tuple[Any, None]:
        new = jax.grad(sums, has_aux=True)(trained, *part)
        return jax.tree.map(jnp.add, total, new), None

    parts = program.num_microbatches
    if parts == 1:
        grads, total = jax.grad(sums, has_aux=True)(trained, batch, 0)
    else:
        # Row i goes to microbatch i mod N, so that every device keeps the rows it has.
        rows = jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)
        zeros = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(jax.grad(sums, has_aux=True), trained, jax.tree.map(lambda x: x[0], rows), 0),
        )
        (grads, total), _ = jax.lax.scan(accumulate, zeros, (rows, jnp.arange(parts)))

    weight = jnp.where(total["weight"] > 0, total["weight"], 1.0)
    grads = jax.tree.map(lambda g: g / weight, grads)
    # Without this, gradients may lose the fsdp axis.
    grads = jax.lax.with_sharding_constraint(grads, treatments.split(program.shardings.params, program.assigned)[0])
    metrics = {"loss": total["loss"] / weight, "weight": total["weight"]}
    return grads, metrics | {f"task_{name}": values for name, values in total["task"].items()}


def train_step(program: Program, state: State, batch: Any) -> tuple[State, Metrics]:
    """Loss → gradients → update → metrics.

    Args:
      program: what was decided before.
      state: before the step.
      batch: the global batch.

    Returns:
      The state after the step, and float32 metrics: loss, weight, gradient_norm, learning_rate (scalars),
      gradient_norm/TOWER and update_norm/TOWER of every tower that is trained (the first part of its parameters'
      names; the update is what is subtracted from them), task_loss, task_weight, task_correct (sums, [tasks]).
    """
    grads, metrics = gradients(program, state, batch)
    norm = optax.global_norm(grads)
    clip = jnp.minimum(1.0, program.optimizer.max_gradient_norm / jnp.maximum(norm, 1e-30))
    clipped = jax.tree.map(lambda g: g * clip, grads)

    trained, frozen = treatments.split(state.params, program.assigned)
    updates, optimizer_state = program.transformation().update(clipped, state.optimizer, trained)
    learning_rate = jnp.asarray(program.optimizer.learning_rate(state.step), jnp.float32)

    def change(name: str, param: Any, update: Any) -> Any:
        treatment = program.assigned[name]
        rate = learning_rate * treatment.learning_rate_scale
        return rate * (update + treatment.weight_decay * param)

    def apply(name: str, param: Any, update: Any) -> Any:
        return (param - change(name, param, update)).astype(param.dtype)

    params = treatments.merge(trees.map_named(apply, trained, updates), frozen)
    metrics |= {"gradient_norm": norm, "learning_rate": learning_rate}
    metrics |= _norms("gradient_norm", grads) | _norms("update_norm", trees.map_named(change, trained, updates))
    new = State(state.step + 1, params, optimizer_state)
    if program.skip_non_finite:
        fine = jnp.isfinite(norm) & jnp.isfinite(metrics["loss"])
        new = jax.tree.map(lambda after, before: jnp.where(fine, after, before), new, state)
        new = dataclasses.replace(new, step=state.step + 1)
    return new, metrics


def _norms(name: str, tree: Any) -> Metrics:
    """"<name>/TOWER" → the norm of all that is below it."""
    return {f"{name}/{tower}": optax.global_norm(below) for tower, below in tree.items()}


def lower_step(program: Program) -> Any:
    """The train step lowered for the program's devices, which need not be there; then ``.compile()``."""
    rows = partitioning.batch_sharding(program.mesh)
    step = jax.jit(
        lambda state, batch: train_step(program, state, batch),
        in_shardings=(program.shardings, rows),
        out_shardings=(program.shardings, partitioning.replicated(program.mesh)),
        donate_argnums=0,
    )
    return step.lower(program.abstract, program.abstract_batch)


def compile_step(program: Program) -> Any:
    """Compiled ``(state, batch) → (state, metrics)``; the state that goes in is used up."""
    return lower_step(program).compile()
