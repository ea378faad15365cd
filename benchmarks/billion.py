"""What it takes to open a data set of a billion records in 10,000 shards and to make its first batch.

    python benchmarks/billion.py --json=billion.json

The manifest is a real one of that size (record counts of every shard, questions and captions of every record), the
eight tasks, their mixture, its schedule and its index are the real ones. What is left out are the image bytes:
whichever record is asked for, one small record is read. Keys:

    records, shards, positions         index entries of all tasks together: what an epoch of each of them has
    manifest_bytes, counts_bytes       on disk
    open_seconds                       manifest, tasks, schedule, until the stream stands; TensorFlow is imported before
    first_batch_seconds                from there
    open_bytes_held, bytes_held        growth of anonymous memory (RssAnon) by opening, and after some batches
    mapped_bytes_held                  growth of mapped file pages, which the system takes back when it needs them
    batches_per_second                 of ten more, anywhere in the epoch
"""

import argparse
import io
import json
import os
import pathlib
import tempfile
import time

import numpy as np

LENGTHS = {"image": 64, "inputs": 64, "targets": 32}
BATCH_SIZE = 256


def write_manifest(directory: str, shards: int, records_a_shard: int) -> None:
    """A manifest whose records have one to three captions and none to five questions."""
    from paligax.data import manifest, records

    rng = np.random.default_rng(0)
    kinds = list(records.ITEMS)
    counts = manifest.CountsWriter(directory, "train", kinds, shards * records_a_shard)
    base = np.ones((len(kinds), records_a_shard), np.uint16)
    listed = []
    for index in range(shards):
        base[kinds.index("alt_text")] = rng.integers(1, 4, records_a_shard)
        base[kinds.index("qa")] = rng.integers(0, 6, records_a_shard)
        counts.append(base)
        items = dict(zip(kinds, base.sum(axis=1, dtype=np.int64).tolist(), strict=True))
        path = f"records-train.array_record-{index:05}-of-{shards:05}"
        listed.append({"path": path, "records": records_a_shard, "bytes": records_a_shard * 60_000, "items": items})
        pathlib.Path(directory, path).touch()
    totals = {kind: sum(shard["items"][kind] for shard in listed) for kind in kinds}
    manifest.add(directory, "train", {"shards": listed, "items": totals, "uniform": counts.close()})


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


def measure(shards: int, records_a_shard: int) -> dict[str, float]:
    from paligax.data import Data
    from paligax.data import shards as shards_lib
    from paligax.vocabulary import ByteVocabulary

    record = one_record()

    class Readers(shards_lib.Readers):
        def read(self, split, numbers):
            return [record] * len(numbers)

    shards_lib.Readers = Readers
    options = {"classes": [f"class {i}" for i in range(600)]}
    with tempfile.TemporaryDirectory() as directory:
        write_manifest(directory, shards, records_a_shard)
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
        figures = {
            "records": shards * records_a_shard,
            "shards": shards,
            "positions": sum(len(task.entries) for task in stream.tasks),
            "manifest_bytes": pathlib.Path(directory, "manifest.json").stat().st_size,
            "counts_bytes": in_files,
            "open_seconds": round(opened, 3),
            "first_batch_seconds": round(first, 3),
            "open_bytes_held": held_open,
            "bytes_held": held("RssAnon") - anonymous,
            "mapped_bytes_held": held("RssFile") - mapped,
            "batch_size": BATCH_SIZE,
            "batches_per_second": round(rate, 2),
            "cores": os.cpu_count(),
        }
        batches.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--records_a_shard", type=int, default=100_000)
    arguments = parser.parse_args()
    figures = measure(arguments.shards, arguments.records_a_shard)
    for name, value in figures.items():
        print(f"{name:24} {value:,}")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
