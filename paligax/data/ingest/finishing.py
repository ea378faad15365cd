"""The end of a build: what all shards' notes say together becomes the manifest and the summary."""

import collections
import json
import os
from typing import Any

import numpy as np

from paligax.data import manifest, records
from paligax.data.ingest import shard_writer
from paligax.data.ingest.shard_writer import Place, Plan
from paligax.data.runtime import tf

SAMPLES = 24  # kept of each reason
_COUNTED = ("items", "problems", "removed", "languages", "sides")


def summary_file(place: Place) -> str:
    return os.path.join(place.directory, f"ingest-{place.split}.json")


def finished(place: Place, digest: str) -> dict[str, Any] | None:
    """The summary of this very build, where it is done already.

    Raises ValueError where the directory has the split from elsewhere.
    """
    if not tf.io.gfile.exists(os.path.join(place.directory, manifest.FILE)):
        return None
    description = manifest.read(place.directory).get(place.split)
    if description is None:
        return None
    if description.get("build") != digest:
        raise ValueError(
            f"{place.directory!r} already has a split {place.split!r}, built of something else. Choose another "
            "directory or split, or remove it."
        )
    if tf.io.gfile.isdir(place.work):  # stopped at its last step
        _clear(place)
    with tf.io.gfile.GFile(summary_file(place)) as f:
        return json.load(f)


def finish(plan: Plan, digest: str, described: dict[str, Any]) -> dict[str, Any]:
    """Writes summary and manifest of the finished shards, removes what the build went by; returns the summary."""
    place, kinds = plan.place, list(records.items(plan.languages))
    listed: list[dict[str, Any]] = []
    totals: dict[str, collections.Counter[str]] = {key: collections.Counter() for key in _COUNTED}
    samples: dict[str, list[dict[str, str]]] = {}
    for index in range(plan.count):  # one at a time: their samples are pictures
        with tf.io.gfile.GFile(place.notes(index)) as f:
            note = json.load(f)
        listed.append({key: note[key] for key in ("path", "records", "bytes", "sha256", "items")})
        for key, total in totals.items():
            total.update(note[key])
        for reason, some in note["samples"].items():
            samples[reason] = sorted([*samples.get(reason, []), *some], key=lambda s: s["key"])[:SAMPLES]
    if not any(shard["records"] for shard in listed):
        _clear(place)
        why = ", ".join(f"{n:,} × {reason}" for key in ("problems", "removed") for reason, n in totals[key].items())
        raise ValueError(f"No record came in for {place.split!r}: {why or 'the source is empty'}. Nothing was built.")
    _remove_others(place, {shard["path"] for shard in listed})
    uniform = _write_counts(place, kinds, [shard["records"] for shard in listed])
    items = {kind: totals["items"][kind] for kind in kinds}
    summary = {
        "split": place.split,
        "source": described,
        "shards": plan.count,
        "records": sum(shard["records"] for shard in listed),
        "bytes": sum(shard["bytes"] for shard in listed),
        **{key: _largest_first(total) for key, total in totals.items()},
        "items": items,
        "samples": dict(sorted(samples.items())),
    }
    written = json.dumps(summary, indent=1, ensure_ascii=False, default=str)
    shard_writer.write_atomically(summary_file(place), written.encode())
    languages = summary["languages"]
    manifest.add(
        place.directory,
        place.split,
        {"shards": listed, "items": items, "uniform": uniform, "languages": languages, "build": digest},
    )
    _clear(place)
    return json.loads(written)


def _remove_others(place: Place, listed: set[str]) -> None:
    """Shards of this split that a build which was given up left behind."""
    for name in tf.io.gfile.listdir(place.directory):
        if name.startswith(f"{place.name}-{place.split}.array_record-") and name not in listed:
            tf.io.gfile.remove(os.path.join(place.directory, name))


def _clear(place: Place) -> None:
    tf.io.gfile.rmtree(place.work)
    above = os.path.dirname(place.work)
    if not tf.io.gfile.listdir(above):  # no other split is being built
        tf.io.gfile.rmtree(above)


def _largest_first(total: collections.Counter[str]) -> dict[str, int]:
    return dict(sorted(total.items(), key=lambda pair: (-pair[1], pair[0])))


def _write_counts(place: Place, kinds: list[str], sizes: list[int]) -> dict[str, int]:
    """Puts the shards' counts together; returns the kinds that every record has equally often."""
    writer = manifest.CountsWriter(place.directory, place.split, kinds, sum(sizes))
    for index in range(len(sizes)):
        with tf.io.gfile.GFile(place.counts(index), "rb") as f:
            writer.append(np.load(f))
    return writer.close()
