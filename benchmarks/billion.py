"""What it takes to open a data set of a billion records in 10,000 shards and to make its first batch.

    python benchmarks/billion.py --json=billion.json
    python benchmarks/billion.py --directory=/data/billion       keeps its 4 GB of counts for other runs

The manifest is a real one of that size (record counts of every shard, questions and captions of every record), the
eight tasks, their mixture, its schedule and its index are the real ones. What is left out are the image bytes:
whichever record is asked for, one small record is read. Keys:

    records, shards, positions         index entries of all tasks together: what an epoch of each of them has
    manifest_bytes, counts_bytes       on disk
    open_seconds                       manifest, tasks, schedule, until the stream stands; TensorFlow is imported before
    trace_seconds                      of these: tracing the eight tasks' graphs, whatever the size of the data set
    first_batch_seconds                from there
    open_bytes_held, bytes_held        growth of anonymous memory (RssAnon) by opening, and after some batches
    mapped_bytes_held                  growth of mapped file pages, which the system takes back when it needs them
    batches_per_second                 of ten more, anywhere in the epoch
    lookup_microseconds                of an index entry of a task whose records have differently many, 256 at a time
    digest_seconds                     of the manifest, once a run
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

LENGTHS = {"image": 64, "inputs": 64, "targets": 32}
BATCH_SIZE = 256


def write_manifest(directory: str, shards: int, records_a_shard: int) -> None:
    """A manifest whose records have one to three captions and none to five questions."""
    from paligax.data import counts, manifest
    from paligax.data.items import ITEMS

    rng = np.random.default_rng(0)
    kinds = list(ITEMS)
    writer = counts.CountsWriter(directory, "train", kinds, shards * records_a_shard)
    base = np.ones((len(kinds), records_a_shard), np.uint16)
    listed = []
    for index in range(shards):
        base[kinds.index("alt_text")] = rng.integers(1, 4, records_a_shard)
        base[kinds.index("qa")] = rng.integers(0, 6, records_a_shard)
        writer.append(base)
        items = dict(zip(kinds, base.sum(axis=1, dtype=np.int64).tolist(), strict=True))
        path = f"records-train.array_record-{index:05}-of-{shards:05}"
        listed.append({"path": path, "records": records_a_shard, "bytes": records_a_shard * 60_000, "items": items})
        pathlib.Path(directory, path).touch()
    totals = {kind: sum(shard["items"][kind] for shard in listed) for kind in kinds}
    manifest.add(directory, "train", {"shards": listed, "items": totals, "uniform": writer.close()})


def one_record() -> bytes:
    from PIL import Image

    from paligax.data import records

    picture = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(picture, "JPEG")
    box = [0.1, 0.1, 0.5, 0.5]
    return records.encode(
        {
            "id": "one",
            "image": picture.getvalue(),
            "text": "once upon a time there was a cat that sat on a mat",
            "alt_text": [{"lang": "en", "text": "a cat on a mat"}] * 3,
            "ocr": [{"lang": "en", "text": "stop", "bbox": box}],
            "objects": [{"label": "cat", "bbox": box, "confidence": 1.0}],
            "qa": [{"lang": "en", "question": "what is it?", "answer": "a cat"}] * 5,
        }
    )


def held(kind: str) -> int:
    """Bytes of this process's memory: RssAnon or RssFile."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind + ":"):
            return int(line.split()[1]) << 10
    raise ValueError(f"/proc/self/status says nothing of {kind}.")


def timed(function: Callable, seconds: list[float]) -> Callable:
    def run(*arguments, **options):
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds.append(time.perf_counter() - start)

    return run


def lookup_seconds(entries: Any, count: int = 256 * 100) -> float:
    """Mean seconds of a lookup, anywhere in the epoch."""
    asked = np.random.default_rng(1).integers(0, len(entries), count)
    start = time.perf_counter()
    for first in range(0, count, 256):
        entries.locate(asked[first : first + 256])
    return (time.perf_counter() - start) / count


def measure(shards: int, records_a_shard: int, kept: str | None = None, without_sums: bool = False) -> dict[str, float]:
    from paligax.data import Data, check
    from paligax.data import shards as shards_lib
    from paligax.vocabulary import ByteVocabulary

    record, tracing = one_record(), []
    check.trace = timed(check.trace, tracing)

    class Readers(shards_lib.Readers):
        def read(self, split, numbers):
            return [record] * len(numbers)

    shards_lib.Readers = Readers
    options = {"classes": [f"class {i}" for i in range(600)]}
    with contextlib.ExitStack() as stack:
        directory = kept or stack.enter_context(tempfile.TemporaryDirectory())
        if not pathlib.Path(directory, "manifest.json").is_file():
            os.makedirs(directory, exist_ok=True)
            write_manifest(directory, shards, records_a_shard)
        if without_sums:
            for file in pathlib.Path(directory, "manifest").glob("*.sums.npy"):
                file.unlink()
        in_files = sum(file.stat().st_size for file in pathlib.Path(directory, "manifest").iterdir())
        anonymous, mapped = held("RssAnon"), held("RssFile")
        start = time.perf_counter()
        data = Data("pali_pretrain", LENGTHS, BATCH_SIZE, ByteVocabulary(), data_dir=directory, options=options)
        stream = data.stream()
        opened, held_open = time.perf_counter() - start, held("RssAnon") - anonymous
        batches = stream.batches(start_step=1_000_000)
        start = time.perf_counter()
        next(batches)
        first = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(10):
            next(batches)
        rate = 10 / (time.perf_counter() - start)
        split = stream.tasks[0].split
        bytes_held, mapped_held = held("RssAnon") - anonymous, held("RssFile") - mapped
        lookup = lookup_seconds(next(task.entries for task in stream.tasks if task.name == "vqa"))
        start = time.perf_counter()
        _ = split.digest
        digest = time.perf_counter() - start
        figures = {
            "records": split.num_records,
            "shards": len(split.paths),
            "positions": sum(len(task.entries) for task in stream.tasks),
            "manifest_bytes": pathlib.Path(directory, "manifest.json").stat().st_size,
            "counts_bytes": in_files,
            "open_seconds": round(opened, 3),
            "trace_seconds": round(sum(tracing), 3),
            "first_batch_seconds": round(first, 3),
            "open_bytes_held": held_open,
            "bytes_held": bytes_held,
            "mapped_bytes_held": mapped_held,
            "batch_size": BATCH_SIZE,
            "batches_per_second": round(rate, 2),
            "lookup_microseconds": round(1e6 * lookup, 1),
            "digest_seconds": round(digest, 3),
            "cores": os.cpu_count(),
        }
        batches.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--records_a_shard", type=int, default=100_000)
    parser.add_argument("--directory", help="where the data set lies, or is left for another run")
    parser.add_argument("--without_sums", action="store_true", help="as one that was built before there were sums")
    arguments = parser.parse_args()
    figures = measure(arguments.shards, arguments.records_a_shard, arguments.directory, arguments.without_sums)
    for name, value in figures.items():
        print(f"{name:24} {value:,}")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
