"""Every index entry of a task once, with what its metrics need beside the batch."""

import dataclasses
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import numpy as np

from paligax.batch import LabelBatch, TextBatch
from paligax.data import Data, features, registry, schedule, shards
from paligax.data.rows import TaskRows, neutral


@dataclasses.dataclass(frozen=True)
class EvalBatch:
    """One shard's rows of an evaluation batch.

    Attributes:
      batch: numpy arrays; rows of weight 0 where there is no example, or one that cannot be used.
      examples: a row's host-side fields, or None for a row that fills up the last batch: "id", "task", "prompt",
        "targets", "references" (the task's "eval/references", else the target alone), "image" uint8 as fed, "skip"
        (why it cannot be used, or ""), and whatever the preprocessors put under "eval/<name>", as "<name>".
    """

    batch: TextBatch | LabelBatch
    examples: list[dict[str, Any] | None]


def batches(
    data: Data, task_name: str, num_examples: int | None, shard_index: int, num_shards: int
) -> Iterator[EvalBatch]:
    """See Data.evaluation. The index is divided before anything is read or decoded."""
    if not 0 <= shard_index < num_shards or data.batch_size % num_shards:
        raise ValueError(f"Shard {shard_index} of {num_shards}: batches of {data.batch_size} cannot be divided so.")
    task = TaskRows(registry.task(data, task_name), data, for_evaluation=True)
    readers = shards.Readers()
    task.try_some(readers)
    total = len(task.entries) if num_examples is None else min(num_examples, len(task.entries))
    return _batches(data, task, readers, total, shard_index, num_shards)


def _batches(
    data: Data, task: TaskRows, readers: shards.Readers, total: int, shard_index: int, num_shards: int
) -> Iterator[EvalBatch]:
    per_shard = data.batch_size // num_shards
    starts = range(shard_index * per_shard, -(-total // data.batch_size) * data.batch_size, data.batch_size)
    order = schedule.Order({task.name: len(task.entries)}, data.seed, shuffle=False)
    with futures.ThreadPoolExecutor(2) as pool:

        def begin(start: int) -> list[futures.Future]:
            entries = np.arange(start, max(start, min(start + per_shard, total)), dtype=np.int64)
            record, item = task.entries.locate(entries)
            seed = order.seeds(np.zeros_like(entries), entries)
            ids = [f"{task.name}:{r}:{i}" for r, i in zip(record, item, strict=True)]
            examples = zip(ids, readers.read(task.split, record), item, seed, strict=True)
            return [pool.submit(_example, data, task, *example) for example in examples]

        running = begin(starts[0]) if len(starts) else []
        for i in range(len(starts)):
            following = begin(starts[i + 1]) if i + 1 < len(starts) else []
            yield _assemble(data, [future.result() for future in running], per_shard)
            running = following


def _example(data: Data, task: TaskRows, identity: str, record: bytes, item: int, seed: np.ndarray):
    """(features of the row, host-side fields)"""
    fields, reason = task.run(record, item, seed)
    row = {name: value[0] if reason else fields[name] for name, value in neutral(data.feature_lengths, 1).items()}
    host: dict[str, Any] = {"id": _text(fields.get("id", b"")) or identity, "task": task.name, "skip": reason}
    if "targets" in row:
        for name, source in (("prompt", "inputs"), ("targets", "targets")):
            written = fields.get(f"{source}_pretokenized")
            host[name] = data.vocabulary.decode(row[source]) if written is None else _text(written)
        host["references"] = [host["targets"]]
    host |= {name[len("eval/") :]: _host(value) for name, value in fields.items() if name.startswith("eval/")}
    return row, host | {"image": row["image"]}


def _assemble(data: Data, examples: list[tuple[dict, dict]], size: int) -> EvalBatch:
    values = neutral(data.feature_lengths, size)
    for i, (row, _) in enumerate(examples):
        for name, array in values.items():
            array[i] = row[name]
    batch = features.converter(data.feature_lengths).BATCH(**values, task=np.zeros(size, np.int32))
    return EvalBatch(batch, [host for _, host in examples] + [None] * (size - len(examples)))


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _host(value: Any) -> Any:
    """A numpy value as metrics want it: text as str, scalars as Python numbers, the rest as arrays."""
    if isinstance(value, bytes):
        return _text(value)
    array = np.asarray(value)
    if array.dtype == object:
        return [_text(v) for v in array.reshape(-1)] if array.ndim == 1 else np.vectorize(_text)(array).tolist()
    return array.item() if array.ndim == 0 else array
