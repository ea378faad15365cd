"""The data room: (mixture, seed, step) → batch.

This file is its TensorFlow-free door: ``Data`` says which batches are wanted, and imports TensorFlow only when they
are asked for, so that any experiment's configuration can be read in a second.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paligax.data.evaluation import EvalBatch
    from paligax.data.stream import Stream

# TensorFlow reads this when it is first imported; its start-up notices would drown the run's own lines.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@dataclasses.dataclass(frozen=True)
class Data:
    """Which examples, in which order, in which shape.

    Attributes:
      mixture_or_task: name in seqio's registries, once the task modules have filled them.
      feature_lengths: ``{"image": pixels, "inputs": L, "targets": T}`` for TextBatch,
        ``{"image": pixels, "labels": C}`` for LabelBatch.
      batch_size: global batch size, all shards together.
      vocabulary: a vocabulary of paligax.vocabulary (not used with labels).
      split: split of every task's source.
      seed: decides order, mixture and every random choice in preprocessing.
      rates: task name → rate; replaces the mixture's rates. Tasks that are not named are left out.
      data_dir: where the task modules find their records.
      task_modules: modules whose ``register(data)`` fills seqio's registries for this run.
      options: passed on to the task modules as they are.
      shuffle: False reads every task in the order of its records.
    """

    mixture_or_task: str
    feature_lengths: Mapping[str, int]
    batch_size: int
    vocabulary: Any = None
    split: str = "train"
    seed: int = 0
    rates: Mapping[str, float] | None = None
    data_dir: str | None = None
    task_modules: tuple[str, ...] = ("tasks.pretrain",)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shuffle: bool = True

    def tasks(self) -> list[str]:
        """Task names of the mixture, sorted: the order of ``batch.task``. Registers them."""
        from paligax.data import registry

        return [task.name for task in registry.tasks(self)]

    def stream(self, shard_index: int = 0, num_shards: int = 1) -> "Stream":
        """The training batches of one of ``num_shards`` readers; every task is checked first.

        Raises ValueError with the task's and the preprocessor's name where a task cannot be trained on reproducibly,
        FileNotFoundError with the shard's name where data is missing.
        """
        from paligax.data import stream

        return stream.Stream(self, shard_index, num_shards)

    def evaluation(
        self, task_name: str, num_examples: int | None = None, shard_index: int = 0, num_shards: int = 1
    ) -> Iterator["EvalBatch"]:
        """Every index entry of ``split`` once, in order (the first ``num_examples`` of them), as EvalBatches.

        Each shard yields ``batch_size // num_shards`` rows a batch, and every shard equally many batches: the last ones
        are filled up with rows of weight 0, whose ``examples`` entry is None.
        """
        from paligax.data import evaluation

        return evaluation.batches(self, task_name, num_examples, shard_index, num_shards)
