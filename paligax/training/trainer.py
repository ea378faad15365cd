"""A job: what is trained, on what, how long, and how often it is looked at and saved."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from paligax.training.evaluation import Evaluation, NoEvaluator
from paligax.training.initialise import InitialSource
from paligax.training.objectives import Objective
from paligax.training.optimizers import Optimizer
from paligax.training.partitioning import Partitioner
from paligax.training.treatments import TRAIN_ALL, Table


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Everything :func:`paligax.training.train` needs but the run's directory.

    Attributes:
      model: a module of paligax.models.
      objective: what a batch's loss is.
      data: which batches; anything with ``batch_size``, ``vocabulary`` and ``stream(shard_index, num_shards)``.
      optimizer: what turns gradients into updates, with its learning rate.
      train_steps: number of updates in all, restarts included.
      partitioner: mesh and rules.
      seed: of initialisation and dropout (the data have their own).
      num_microbatches: parts in which a batch is worked through, to save memory; it changes nothing else.
      treatments: regex → Trained or Frozen, see :mod:`paligax.training.treatments`.
      initial_sources: weights to start from at step 0.
      initial_optimizer: a run or checkpoint whose optimizer state is carried over at step 0, as far as names and shapes
        agree; "": a fresh one.
      branch_from: a run or checkpoint whose whole state (step, parameters, optimizer) this run begins with, instead of
        step 0; ``train_steps`` counts from that run's first step. A cool-down is a branch.
      non_finite: what is done about a loss or gradient that isn't finite: "stop" ends the run and writes the batch's
        examples down; "skip" leaves that update out, counts it, writes them down too, and goes on.
      checkpoint_every: save after every so many steps, and at the end.
      keep: how many of the newest checkpoints stay.
      log_every: write a line of metrics after every so many steps, and at the end.
      evaluator: scores the model now and then.
      prefetch: batches kept ready.
      compile_cache: directory in which compiled programs are kept over restarts; "" keeps none.
        JAX_COMPILATION_CACHE_DIR has precedence.
    """

    model: Any
    objective: Objective
    data: Any
    optimizer: Optimizer
    train_steps: int
    partitioner: Partitioner = Partitioner()
    seed: int = 0
    num_microbatches: int = 1
    treatments: Table = TRAIN_ALL
    initial_sources: Sequence[InitialSource] = ()
    initial_optimizer: str = ""
    branch_from: str = ""
    non_finite: str = "stop"
    checkpoint_every: int = 1000
    keep: int = 3
    log_every: int = 50
    evaluator: Evaluation = NoEvaluator()
    prefetch: int = 2
    compile_cache: str = "~/.cache/paligax/jax"

    def __post_init__(self):
        for name in ("train_steps", "num_microbatches", "checkpoint_every", "keep", "log_every", "prefetch"):
            if getattr(self, name) < 1:
                raise ValueError(f"Trainer.{name} must be at least 1, got {getattr(self, name)}.")
        if self.non_finite not in ("stop", "skip"):
            raise ValueError(f"Trainer.non_finite={self.non_finite!r}: expected 'stop' or 'skip'.")
        if self.branch_from and (self.initial_sources or self.initial_optimizer):
            raise ValueError(
                f"Trainer.branch_from={self.branch_from!r} is a whole state: leave initial_sources and "
                "initial_optimizer out."
            )
