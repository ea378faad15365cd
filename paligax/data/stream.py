"""(mixture, seed, step) → batch, as a pure function.

Every task has a pipeline of its own, in which each record runs alone through the task's one graph, so that an error
touches one row. What comes out carries its position in the stream; a batch is put together by position, and a position
that does not come out gets a neutral row of weight 0. Nothing is kept from batch to batch: a stream that is started at
step s, or read by another number of shards, gives the same batches.
"""

import atexit
import collections
import dataclasses
import functools
import hashlib
import json
import math
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from paligax.batch import LabelBatch, TextBatch
from paligax.data import Data, features, registry, schedule, shards
from paligax.data.rows import TaskRows, neutral, unusable
from paligax.data.runtime import seqio, tf

VERSION = 1  # of the stream's arithmetic: part of the fingerprint
_READ_BYTES = 16 << 20  # records read at once, all tasks together, about
_READ_ROWS = 1024  # and at most
_CHUNK_BYTES = 8 << 20  # finished rows of a task handed over at once, at most
_CHUNK_ROWS = 32  # and, where a step has fewer, about


@dataclasses.dataclass(frozen=True)
class StreamBatch:
    """One shard's rows of the batch of one step.

    Attributes:
      step: which.
      batch: numpy arrays, ``batch_size // num_shards`` rows.
      skipped: "<task>/<reason>" → number of rows of weight 0 for that reason.
      ids: "<task>:<record>:<item>" of each row.
    """

    step: int
    batch: TextBatch | LabelBatch
    skipped: dict[str, int]
    ids: list[str]


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What stands at some positions: arrays [n] (seed [n, 2])."""

    position: np.ndarray
    task: np.ndarray
    record: np.ndarray
    item: np.ndarray
    seed: np.ndarray

    def of(self, rows: np.ndarray | slice) -> "_Plan":
        return _Plan(**{field.name: getattr(self, field.name)[rows] for field in dataclasses.fields(self)})


class Stream:
    """The training batches of one shard of a Data; see Data.stream."""

    def __init__(self, data: Data, shard_index: int = 0, num_shards: int = 1):
        if not 0 <= shard_index < num_shards or data.batch_size % num_shards:
            raise ValueError(
                f"Shard {shard_index} of {num_shards} of batches of {data.batch_size}: the index must lie below the "
                "number of shards, and batch_size must be divisible by it."
            )
        rates = registry.rates(data)
        self.data, self.readers = data, shards.Readers()
        self.tasks = [TaskRows(task, data) for task in registry.tasks_of(rates)]
        for task in self.tasks:
            task.try_some(self.readers)
        self.schedule = schedule.Schedule(rates, data.seed)
        self.rows = data.batch_size // num_shards
        self._first = shard_index * self.rows
        self._order = schedule.Order({task.name: len(task.entries) for task in self.tasks}, data.seed, data.shuffle)
        record_bytes = max(task.split.mean_record_bytes for task in self.tasks)
        self._steps_a_plan = max(1, min(_READ_ROWS, int(_READ_BYTES / record_bytes)) // self.rows)
        self._plans = functools.lru_cache(maxsize=64)(self._make_plan)  # rare tasks read far ahead
        self._lock = threading.Lock()

    @property
    def task_names(self) -> tuple[str, ...]:
        """What ``batch.task`` indexes."""
        return self.schedule.names

    @property
    def block_size(self) -> int:
        """Number of positions after which the mixture's proportions are exact."""
        return self.schedule.block_size

    def abstract_batch(self) -> TextBatch | LabelBatch:
        """The global batch, all shards together, as shapes and dtypes."""
        return features.abstract_batch(self.data.feature_lengths, self.data.batch_size)

    def fingerprint(self) -> str:
        """Hash of everything that decides the batches; not of how many shards read them, nor where the data lies."""
        counts = {name: int(n) for name, n in zip(self.task_names, self.schedule.counts, strict=True)}
        return fingerprint(self.data, self.tasks, counts)

    def _make_plan(self, number: int) -> _Plan:
        steps = number * self._steps_a_plan + np.arange(self._steps_a_plan, dtype=np.int64)
        position = (steps[:, None] * self.data.batch_size + self._first + np.arange(self.rows)).reshape(-1)
        task, k = self.schedule.locate(position)
        entry = self._order.entries(task, k)
        record, item = np.empty_like(entry), np.empty_like(entry)
        for index in np.unique(task):
            rows = task == index
            record[rows], item[rows] = self.tasks[index].entries.locate(entry[rows])
        return _Plan(position, task, record, item, self._order.seeds(task, k))

    def plan(self, number: int) -> _Plan:
        """This shard's rows of some whole steps: the ``number``-th piece of the run."""
        with self._lock:
            return self._plans(number)

    def plan_of_step(self, step: int) -> _Plan:
        number, inside = divmod(step, self._steps_a_plan)
        return self.plan(number).of(slice(inside * self.rows, (inside + 1) * self.rows))

    def plans_from(self, step: int) -> Iterator[_Plan]:
        """Everything from a step on."""
        number, inside = divmod(step, self._steps_a_plan)
        yield self.plan(number).of(slice(inside * self.rows, None))
        while True:
            number += 1
            yield self.plan(number)

    def batches(self, start_step: int = 0) -> Iterator[StreamBatch]:
        """This shard's rows of the batches of start_step, start_step + 1, … without end.

        Raises OSError naming the shard where data has become unreadable.
        """
        kind = features.converter(self.data.feature_lengths).BATCH
        one = neutral(self.data.feature_lengths, 1)
        feeds = [_Feed(self, index, start_step, one) for index in range(len(self.tasks))]
        try:
            step = start_step
            while True:
                plan = self.plan_of_step(step)
                values = {name: np.empty((self.rows, *row.shape[1:]), row.dtype) for name, row in one.items()}
                skipped: collections.Counter[str] = collections.Counter()
                for index in np.unique(plan.task):
                    rows = np.flatnonzero(plan.task == index)
                    reasons = feeds[index].fill(values, rows, plan.of(rows))
                    skipped.update(f"{self.task_names[index]}/{reason}" for reason in reasons)
                where = zip(plan.task, plan.record, plan.item, strict=True)
                ids = [f"{self.task_names[task]}:{record}:{item}" for task, record, item in where]
                yield StreamBatch(step, kind(**values, task=plan.task.astype(np.int32)), dict(skipped), ids)
                step += 1
        finally:
            for feed in feeds:
                feed.close()


def fingerprint(data: Data, tasks: Sequence[TaskRows], counts: Mapping[str, int]) -> str:
    """See Stream.fingerprint; counts: task name → its positions in a block."""
    described = {
        "version": VERSION,
        "counts": dict(counts),
        "tasks": {
            task.name: {
                "data": task.split.digest,
                "split": task.split.name,
                "items": task.task.source.items,
                "preprocessors": [seqio.utils.function_name(p) for p in task.task.preprocessors],
            }
            for task in tasks
        },
        "feature_lengths": dict(data.feature_lengths),
        "batch_size": data.batch_size,
        "vocabulary": data.vocabulary.digest() if "targets" in data.feature_lengths else None,
        "seed": data.seed,
        "shuffle": data.shuffle,
        "options": dict(data.options),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:16]


class _Feed:
    """One task's finished rows from a step on, in order of position, with gaps where one failed."""

    def __init__(self, stream: Stream, index: int, start_step: int, neutral_row: dict[str, np.ndarray]):
        self._stream, self._index, self._task = stream, index, stream.tasks[index]
        self._neutral = neutral_row
        self._error: list[Exception] = []
        self._chunk: dict[str, np.ndarray] = {"position": np.empty(0, np.int64)}
        self._next = 0  # row of the chunk
        self._chunks: Iterator | None = iter(self._pipeline(start_step))
        _open_feeds.add(self)

    def _requests(self, start_step: int) -> Iterator[tuple]:
        """(records, items, seeds, positions) of this task, a plan at a time."""
        try:
            for plan in self._stream.plans_from(start_step):
                mine = plan.of(plan.task == self._index)
                if len(mine.position):
                    serialized = self._stream.readers.read(self._task.split, mine.record)
                    yield np.array(serialized, object), mine.item, mine.seed, mine.position
        except Exception as error:  # told by _next_chunk: passing through tf.data would hide it
            self._error.append(error)

    def _pipeline(self, start_step: int) -> tf.data.Dataset:
        signature = (
            tf.TensorSpec((None,), tf.string),
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((None, 2), tf.int32),
            tf.TensorSpec((None,), tf.int64),
        )
        function = self._task.function

        def run(record, item, seed, position):
            return {**function(record, item, seed), "position": position}

        stream = self._stream
        row_bytes = sum(a.nbytes for a in self._neutral.values())
        a_step = math.ceil(stream.rows * stream.schedule.counts[self._index] / stream.block_size)
        chunk = max(1, min(max(a_step, _CHUNK_ROWS), _CHUNK_BYTES // row_bytes))
        requests = functools.partial(self._requests, start_step)
        dataset = tf.data.Dataset.from_generator(requests, output_signature=signature).unbatch()
        dataset = dataset.map(run, num_parallel_calls=2 * min(os.cpu_count() or 1, 32), deterministic=True)
        dataset = dataset.ignore_errors().batch(chunk).prefetch(1 + math.ceil(a_step / chunk))
        options = tf.data.Options()
        options.autotune.enabled = False
        options.threading.max_intra_op_parallelism = 1
        return dataset.with_options(options)

    def _next_chunk(self) -> None:
        try:
            self._chunk = {name: value.numpy() for name, value in next(self._chunks).items()}
        except StopIteration:
            raise self._error[0] from None
        self._next = 0

    def fill(self, values: dict[str, np.ndarray], rows: np.ndarray, plan: _Plan) -> list[str]:
        """Writes this task's rows of a step into the batch's arrays; returns why some became neutral."""
        missing, unused = np.ones((2, len(rows)), bool)
        reasons = []
        while missing.any():
            if self._next == len(self._chunk["position"]):
                self._next_chunk()
            arrived = self._chunk["position"][self._next :]
            count = int(np.searchsorted(arrived, plan.position[-1], side="right"))
            if not count:
                break  # the next row belongs to a later step: what is missing has failed
            taken = slice(self._next, self._next + count)
            self._next += count
            which = np.searchsorted(plan.position, arrived[:count])
            missing[which] = False
            why = unusable(self._chunk["skip"][taken], self._chunk["targets"][taken] if "targets" in values else None)
            usable = np.array([not reason for reason in why])
            unused[which[usable]] = False
            reasons += [reason for reason in why if reason]
            for name, array in values.items():
                finished = self._chunk[name][taken]
                array[rows[which[usable]]] = finished if usable.all() else finished[usable]
        for name, array in values.items():
            array[rows[unused]] = self._neutral[name]
        failed = plan.of(missing)
        serialized = self._stream.readers.read(self._task.split, failed.record)
        for example in zip(serialized, failed.item, failed.seed, strict=True):
            reasons.append(self._task.run(*example)[1] or "failed once")
        return reasons

    def close(self) -> None:
        self._chunks = None  # stops the pipeline


_open_feeds: "weakref.WeakSet[_Feed]" = weakref.WeakSet()


@atexit.register
def _close_feeds() -> None:
    """Pipelines that outlive the interpreter complain on the terminal."""
    for feed in list(_open_feeds):
        feed.close()
