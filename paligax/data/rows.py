"""One task's examples on the host: which record an index entry is, and its way through the task."""

import dataclasses
import functools
import logging
from collections.abc import Mapping

import numpy as np

from paligax.data import Data, check, features, records, shards
from paligax.data.runtime import seqio, tf

log = logging.getLogger(__name__)


class TaskRows:
    """A task over one split, traced and checked.

    Attributes:
      entries: its index. split: its shards.
      function: (record string, item int64, seed int32[2]) → the row's features, as a TensorFlow function.

    Raises what check.trace raises; FileNotFoundError naming a shard that isn't there.
    """

    def __init__(self, task: seqio.Task, data: Data, for_evaluation: bool = False):
        if not hasattr(task.source, "entries"):
            raise ValueError(
                f"Task {task.name!r} reads from {type(task.source).__name__}, which gives no random access. Use "
                "paligax.data.sources.RecordSource on ArrayRecord shards."
            )
        self.task, self.name = task, task.name
        self.split: shards.Split = task.source.split(data.split)
        self.split.require_shards()
        self.entries: shards.Entries = task.source.entries(data.split)
        if not len(self.entries):
            raise ValueError(
                f"Task {task.name!r}: split {data.split!r} of {task.source} has no entries {task.source.items!r}."
            )
        self.function = check.trace(task, data.feature_lengths, for_evaluation)

    def run(self, record: bytes, item: int, seed: np.ndarray) -> tuple[dict[str, np.ndarray], str]:
        """One example, alone → (its row, empty where there is none; why it cannot be used, or "")."""
        try:
            row = self.function(tf.constant(record), tf.constant(item, tf.int64), tf.constant(seed, tf.int32))
        except (tf.errors.OpError, UnicodeError) as error:
            return {}, self._reason(record, error)
        row = {name: value.numpy() for name, value in row.items()}
        targets = row["targets"][None] if "targets" in row else None
        return row, unusable(np.array([row["skip"]], object), targets)[0]

    def _reason(self, record: bytes, error: Exception) -> str:
        try:
            reason = records.check(records.decode(record))
        except Exception:  # noqa: BLE001  (protobuf's DecodeError has no public base)
            reason = "broken record"
        reason = reason or f"error in the task: {type(error).__name__}"
        _log_once(self.name, reason, str(error))
        return reason

    def try_some(self, readers: shards.Readers) -> None:
        """Raises ValueError where none of a few entries, spread over the index, can be used."""
        tried = np.unique(np.linspace(0, len(self.entries) - 1, check.TRIED).astype(np.int64))
        record, item = self.entries.locate(tried)
        serialized = readers.read(self.split, record)
        seed = np.zeros(2, np.int32)
        check.require_usable(self.task, [self.run(r, i, seed)[1] for r, i in zip(serialized, item, strict=True)])


@functools.lru_cache(maxsize=1000)
def _log_once(task: str, reason: str, message: str) -> None:
    log.info("Task %s, %s: %s", task, reason, message)


def unusable(skip: np.ndarray, targets: np.ndarray | None) -> list[str]:
    """Why finished rows have weight 0, or "": what their task marked, or no token before EOS.

    skip: object[n] of bytes; targets: int32[n, T], None for labels.
    """
    reasons = [marked.decode(errors="replace") for marked in skip]
    if targets is not None:
        for row in np.flatnonzero(~(targets > 1).any(axis=1)):
            reasons[row] = reasons[row] or "empty targets"
    return reasons


def neutral(feature_lengths: Mapping[str, int], rows: int) -> dict[str, np.ndarray]:
    """A batch's arrays for rows that cannot be used: no image, EOS alone (attention needs one token), weight 0."""
    abstract = features.abstract_batch(feature_lengths, rows)
    leaves = {field.name: getattr(abstract, field.name) for field in dataclasses.fields(abstract)}
    values = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in leaves.items() if name != "task"}
    for name in ("inputs", "targets"):
        if name in values:
            values[name][:, 0] = 1
    return values
