"""Runs that begin where another one was: with its whole state (a branch), or with its optimizer's moments alone.

A branch is how one long training gets several endings: PaLI's ViT-e is cooled down twice from one checkpoint, and the
mean of both is kept (PaLI section 3.1). Starting from weights alone is :mod:`paligax.training.initialise`.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from paligax.training import checkpoints
from paligax.training.state import State


def find_branch(path: str, abstract: State, train_steps: int) -> tuple[pathlib.Path, int]:
    """The checkpoint that a run branches off, and its step.

    Args:
      path: a run, its "checkpoints", or one step's directory.
      abstract: the run's state.
      train_steps: of the run, counted from the other run's first step.

    Raises:
      FileNotFoundError: where there is no checkpoint.
      CheckpointError: where it is damaged, or of another model, optimizer or treatments; all differences are listed.
      ValueError: where the run would be over before it began.
    """
    directory = checkpoints.find(path)
    step = int(directory.name)
    if step >= train_steps:
        raise ValueError(
            f"Trainer.branch_from is step {step} of {directory.parent.parent}; train_steps={train_steps} counts from "
            f"that run's first step: more than {step} are needed."
        )
    checkpoints.check_fit(directory / "params", abstract.params)
    checkpoints.check_fit(directory / "optimizer", abstract.optimizer)
    return directory, step


def restore(directory: pathlib.Path, step: int, abstract: State) -> State:
    """The whole state of a checkpoint, with the shardings of ``abstract``, which must fit."""
    params = checkpoints.restore_item(directory / "params", abstract.params)
    optimizer = checkpoints.restore_item(directory / "optimizer", abstract.optimizer)
    count = jax.make_array_from_callback((), abstract.step.sharding, lambda _: np.asarray(step, np.int32))
    return State(count, params, optimizer)


def carry_optimizer(path: str, fresh: Any, say: Callable[[str], None]) -> Any:
    """An optimizer's state with what fits of another run's: the leaves of the same name and shape.

    The count of updates is one of them: Adafactor's decay goes on from there. What doesn't fit (positions of another
    grid, parameters that were frozen) stays fresh, and is told leaf by leaf.

    Args:
      path: a run, its "checkpoints", or one step's directory.
      fresh: the optimizer's state before the first update, global arrays.
      say: prints a line for the user.

    Raises:
      FileNotFoundError, CheckpointError: as ``checkpoints.find`` raises them.
      ValueError: where nothing but the count fits: it is of another optimizer or model.
    """
    directory = checkpoints.find(path)
    leaves, structure = jax.tree_util.tree_flatten_with_path(fresh)
    names = [checkpoints.name_of(place) for place, _ in leaves]
    found = {name: leaf for name, (_, leaf) in zip(names, leaves, strict=True)}
    saved = checkpoints.shapes_of(directory / "optimizer")
    fits = [name for name in names if name in saved and tuple(saved[name].shape) == tuple(found[name].shape)]
    if not any(found[name].ndim for name in fits):
        raise ValueError(
            f"No moment of {directory}'s optimizer fits this run's: it is of another optimizer or model. It has "
            f"{', '.join(sorted(saved)[:3])}, …; wanted: {', '.join(names[:3])}, …"
        )
    wanted = {
        name: jax.ShapeDtypeStruct(found[name].shape, found[name].dtype, sharding=found[name].sharding) for name in fits
    }
    read = checkpoints.read_leaves(directory / "optimizer", wanted)
    say(f"Optimizer state from {directory}: {len(fits)} of {len(names)} leaves.")
    for name in names:
        if name not in read:
            why = f"{tuple(saved[name].shape)} there" if name in saved else "not there"
            say(f"  {name:<72} {tuple(found[name].shape)!s:<20} fresh: {why}")
    return jax.tree_util.tree_unflatten(structure, [read.get(name, found[name]) for name in names])
