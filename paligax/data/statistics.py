"""What a run would train on, in numbers: lengths, what is cut off, languages, images, and why examples are skipped.

Examples go the stream's own way, one record through its task's graph, so that what is counted here is what training
meets: the same prompts, the same limits, the same reasons.
"""

import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Collection, Iterable, Mapping
from concurrent import futures
from typing import Any

import numpy as np

from paligax import image as image_lib
from paligax.data import Data, items, records, registry, schedule, shards
from paligax.data.rows import TaskRows
from paligax.data.runtime import seqio

_AT_ONCE = 64  # records in memory
# Text feature → host-side field with its number of ids before anything was left out (EOS included).
WHOLE = {"inputs": "eval/input_length", "targets": "eval/target_length"}


@dataclasses.dataclass(frozen=True)
class _Example:
    """One example: why it cannot be used or ""; feature → (ids before anything was left out, ids fed); its language, ""
    where it has none; (height, width) and bytes of its image, None without one; number of labels, None without them.
    """

    reason: str
    lengths: Mapping[str, tuple[int, int]]
    language: str
    image: tuple[int, int, int] | None
    labels: int | None


def statistics(
    data: Data, num_examples: int | None = 1000, known_languages: Collection[str] | None = None
) -> dict[str, Any]:
    """Numbers of a mixture's tasks, over examples spread evenly over each task's index.

    Args:
      data: whose mixture, split, lengths and vocabulary are asked about.
      num_examples: of each task; None takes all.
      known_languages: if given, examples in any other are counted as "languages_outside".

    Returns:
      Of Python's own types, so that JSON can hold it: "mixture", "split", "feature_lengths" and

          "tasks": {name: {
              "share": of the mixture's examples          "share_of_target_tokens": what the loss sees of this task
              "entries": length of an epoch               "examples": how many were looked at
              "usable": share                             "skipped": {reason: examples}
              "inputs", "targets": {"mean", "p50", "p90", "p99", "max"} ids before anything was left out, EOS included;
                  "limit"; "fed": mean ids fed; "truncated": share of which something was left out
              "labels": likewise, classes an example      "languages": {code: examples}, most first
              "images": {"height", "width", "bytes": likewise; "smaller": share with a side below the resolution}}}

      Lengths and languages are of usable examples. Tasks of `tasks.parts` say how long a text was (WHOLE), those that
      end with seqio's own tokenize leave the text; of others, lengths are those fed and "truncated" is None.

    Raises what Data.stream raises for tasks that cannot be trained on.
    """
    rates = registry.rates(data)
    tasks = {task.name: _of_task(data, task, num_examples) for task in registry.tasks_of(rates)}
    for name, of_task in tasks.items():
        of_task["share"] = rates[name] / sum(rates.values())
        if known_languages is not None:
            outside = [n for code, n in of_task["languages"].items() if code not in known_languages]
            of_task["languages_outside"] = sum(outside)
    target_tokens = {name: _target_tokens(of_task) for name, of_task in tasks.items()}
    for name, number in target_tokens.items():
        tasks[name]["share_of_target_tokens"] = number / max(sum(target_tokens.values()), 1e-9)
    return {
        "mixture": data.mixture_or_task,
        "split": data.split,
        "feature_lengths": dict(data.feature_lengths),
        "tasks": tasks,
    }


def _target_tokens(of_task: Mapping[str, Any]) -> float:
    """A task's target tokens for each example of the mixture; a skipped example has none."""
    return of_task["share"] * of_task["usable"] * (of_task["targets"] or {"fed": 0.0})["fed"]


def _of_task(data: Data, task: seqio.Task, num_examples: int | None) -> dict[str, Any]:
    rows, readers = TaskRows(task, data, for_evaluation=True), shards.Readers()
    total = len(rows.entries)
    count = total if num_examples is None else min(num_examples, total)
    entries = np.linspace(0, total - 1, count).astype(np.int64)
    order = schedule.Order({task.name: total}, data.seed, shuffle=False)
    seen: list[_Example] = []
    with futures.ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        for start in range(0, count, _AT_ONCE):
            piece = entries[start : start + _AT_ONCE]
            record, item = rows.entries.locate(piece)
            seeds = order.seeds(np.zeros_like(piece), piece)
            serialized = readers.read(rows.split, record)
            seen += pool.map(lambda *given: _example(data, rows, *given), serialized, item, seeds)
    readers.close()
    return {"entries": total, **_summed_up(data, seen)}


def _example(data: Data, rows: TaskRows, serialized: bytes, item: int, seed: np.ndarray) -> _Example:
    fields, reason = rows.run(serialized, item, seed)
    if reason:
        return _Example(reason, {}, "", None, None)
    record = records.decode(serialized)
    lengths = {name: _lengths(data, fields, name) for name in WHOLE if name in fields}
    image = (*image_lib.size(record["image"]), len(record["image"])) if record["image"] else None
    labels = int(np.count_nonzero(fields["labels"])) if "labels" in fields else None
    return _Example("", lengths, _language(rows.task.source.items, record, int(item)), image, labels)


def _lengths(data: Data, fields: Mapping[str, np.ndarray], name: str) -> tuple[int, int]:
    """(ids before anything was left out, -1 where nobody knows; ids fed)"""
    fed = int(np.count_nonzero(fields[name]))
    if WHOLE[name] in fields:
        return int(fields[WHOLE[name]]), fed
    written = fields.get(f"{name}_pretokenized")
    if written is None:
        return -1, fed
    return len(data.vocabulary.encode(bytes(written).decode(errors="replace"))) + 1, fed


def _language(entries: str, record: records.Record, item: int) -> str:
    kind, _, chosen = entries.partition(":")
    if kind not in items.LANGUAGES_OF_ITEMS:
        return ""
    found = items.LANGUAGES_OF_ITEMS[kind](record)
    if chosen:
        found = [code for code in found if code in chosen.split("+")]
    return (found[item] if item < len(found) else "") or items.UNKNOWN_LANGUAGE


def _summed_up(data: Data, seen: list[_Example]) -> dict[str, Any]:
    usable = [example for example in seen if not example.reason]
    skipped = collections.Counter(example.reason for example in seen if example.reason)
    languages = collections.Counter(example.language for example in usable if example.language)
    result: dict[str, Any] = {
        "examples": len(seen),
        "usable": len(usable) / max(len(seen), 1),
        "skipped": dict(skipped.most_common()),
        "languages": dict(languages.most_common()),
    }
    for name in WHOLE:
        result[name] = _of_lengths(
            [e.lengths[name] for e in usable if name in e.lengths], data.feature_lengths.get(name)
        )
    result["labels"] = summary(example.labels for example in usable if example.labels is not None)
    images = [example.image for example in usable if example.image]
    result["images"] = {}
    if images:
        height, width, size = zip(*images, strict=True)
        small = [min(sides[:2]) < data.feature_lengths["image"] for sides in images]
        sides = {"height": summary(height), "width": summary(width), "bytes": summary(size)}
        result["images"] = {**sides, "smaller": float(np.mean(small))}
    return result


def _of_lengths(lengths: list[tuple[int, int]], limit: int | None) -> dict[str, Any]:
    if not lengths:
        return {}
    whole, fed = np.array(lengths).T
    known = bool((whole >= 0).all())
    truncated = float(np.mean(whole > fed)) if known else None
    return {**summary(whole if known else fed), "limit": limit, "fed": float(fed.mean()), "truncated": truncated}


def summary(values: Iterable[float]) -> dict[str, float]:
    """{"mean", "p50", "p90", "p99", "max"} of some numbers, {} of none."""
    array = np.array(list(values), np.float64)
    if not array.size:
        return {}
    percentiles = {f"p{p}": float(np.percentile(array, p)) for p in (50, 90, 99)}
    return {"mean": float(array.mean()), **percentiles, "max": float(array.max())}


# ------------------------------------------------------------------------------------------------ for people


def write(found: Mapping[str, Any], path: str) -> None:
    """Writes what `statistics` returned as JSON."""
    file = pathlib.Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def print_table(found: Mapping[str, Any]) -> None:
    """Prints what `statistics` returned: a table of a row a task, then skipped examples and languages."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    lengths = ", ".join(f"{name} {length:,}" for name, length in found["feature_lengths"].items())
    table = Table(title=f"{found['mixture']}, split {found['split']} ({lengths})", title_justify="left")
    table.add_column("task")
    for title in (
        "share",
        "entries",
        "usable",
        "ids in (99 %, most)",
        "cut",
        "ids out (99 %, most)",
        "cut",
        "image px",
    ):
        table.add_column(title, justify="right")
    for name, of_task in found["tasks"].items():
        texts = [cell for feature in WHOLE for cell in _text_cells(of_task[feature])]
        cells = [f"{of_task['share']:.1%}", f"{of_task['entries']:,}", f"{of_task['usable']:.1%}", *texts]
        table.add_row(name, *cells, _image_cell(of_task["images"]))
    console.print(table)
    for name, of_task in found["tasks"].items():
        for title, counts in (("skipped", of_task["skipped"]), ("languages", of_task["languages"])):
            if counts:
                listed = ", ".join(f"{key} {number:,}" for key, number in list(counts.items())[:12])
                more = f" and {len(counts) - 12} more" if len(counts) > 12 else ""
                console.print(f"  {name}, {title}: {listed}{more} of {of_task['examples']:,}", highlight=False)
        if of_task.get("languages_outside"):
            number = of_task["languages_outside"]
            console.print(f"  {name}: {number:,} examples in languages outside the table of languages", highlight=False)


def _text_cells(of_feature: Mapping[str, Any]) -> tuple[str, str]:
    if not of_feature:
        return "–", "–"
    truncated = "?" if of_feature["truncated"] is None else f"{of_feature['truncated']:.1%}"
    return f"{of_feature['mean']:.1f} ({of_feature['p99']:.0f}, {of_feature['max']:.0f})", truncated


def _image_cell(images: Mapping[str, Any]) -> str:
    return f"{images['width']['p50']:.0f}×{images['height']['p50']:.0f}" if images else "–"
