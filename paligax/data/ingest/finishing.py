"""The end of a build: what all shards' notes say together becomes the manifest and the summary."""

import collections
import json
import os
from typing import Any

import numpy as np

from paligax.data import counts, manifest
from paligax.data.ingest import shard_writer
from paligax.data.ingest.shard_writer import Place, Plan
from paligax.data.items import items as items_of
from paligax.data.runtime import tf

SAMPLES = 24  # kept of each reason
_COUNTED = ("items", "problems", "dropped", "removed", "parts", "languages", "sides")


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
    place, kinds = plan.place, list(items_of(plan.languages))
    listed: list[dict[str, Any]] = []
    totals: dict[str, collections.Counter[str]] = {key: collections.Counter() for key in _COUNTED}
    samples: dict[str, list[dict[str, str]]] = {}
    read, filled = 0, []
    for index in range(plan.count):  # one at a time: their samples are pictures
        with tf.io.gfile.GFile(place.notes(index)) as f:
            note = json.load(f)
        if note["records"]:
            filled.append(index)
            listed.append({key: note[key] for key in ("path", "records", "bytes", "sha256", "items")})
        read += note["read"]
        for key, total in totals.items():
            total.update(note[key])
        for reason, some in note["samples"].items():
            samples[reason] = sorted([*samples.get(reason, []), *some], key=lambda s: s["key"])[:SAMPLES]
    if not listed:
        for name in {os.path.basename(place.shard(index, plan.count)) for index in range(plan.count)}:
            tf.io.gfile.remove(os.path.join(place.directory, name))
        _clear(place)
        why = ", ".join(f"{n:,} × {reason}" for key in ("problems", "removed") for reason, n in totals[key].items())
        raise ValueError(f"No record came in for {place.split!r}: {why or 'the source is empty'}. Nothing was built.")
    for number, shard in enumerate(listed):
        shard["path"] = _renumbered(place, shard["path"], number, len(listed))
    _remove_others(place, {shard["path"] for shard in listed})
    uniform = _write_counts(place, kinds, filled, sum(shard["records"] for shard in listed))
    items = {kind: totals["items"][kind] for kind in kinds}
    counted = {
        "read": read,
        "records": sum(shard["records"] for shard in listed),
        **{key: _largest_first(totals[key]) for key in ("dropped", "removed", "problems", "languages")},
        "parts": _by_part(totals["parts"]),
    }
    summary = {
        "split": place.split,
        "source": described,
        "shards": len(listed),
        **counted,
        "bytes": sum(shard["bytes"] for shard in listed),
        "sides": _largest_first(totals["sides"]),
        "items": items,
        "samples": dict(sorted(samples.items())),
    }
    written = json.dumps(summary, indent=1, ensure_ascii=False, default=str)
    shard_writer.write_atomically(summary_file(place), written.encode())
    description = {"shards": listed, "items": items, "uniform": uniform, **counted, "build": digest}
    manifest.add(place.directory, place.split, description)
    _clear(place)
    return json.loads(written)


def _renumbered(place: Place, name: str, number: int, count: int) -> str:
    """The name of a shard that is the ``number``-th of those with records; it is renamed where some have none.

    A build that was stopped in the middle of it finds some renamed already: the names before and after have different
    counts, so that none is taken for another.
    """
    path = place.shard(number, count)
    before = os.path.join(place.directory, name)
    if before != path and tf.io.gfile.exists(before):
        tf.io.gfile.rename(before, path, overwrite=True)
    return os.path.basename(path)


def _by_part(total: collections.Counter[str]) -> dict[str, dict[str, int]]:
    """Counts of "objects read", … → {"objects": {"read", "left out", "dropped"}} of those parts that there are."""
    kinds = [key.removesuffix(" read") for key, number in total.items() if key.endswith(" read") and number]
    return {kind: {what: total[f"{kind} {what}"] for what in ("read", "left out", "dropped")} for kind in sorted(kinds)}


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


def _write_counts(place: Place, kinds: list[str], indices: list[int], total: int) -> dict[str, int]:
    """Puts the shards' counts together; returns the kinds that every record has equally often."""
    writer = counts.CountsWriter(place.directory, place.split, kinds, total)
    for index in indices:
        path = place.counts(index)
        if os.path.exists(path):
            writer.append(np.load(path, mmap_mode="r"))
        else:
            with tf.io.gfile.GFile(path, "rb") as f:
                writer.append(np.load(f))
    return writer.close()
