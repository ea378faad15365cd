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
    with tf.io.gfile.GFile(summary_file(place)) as f:
        return json.load(f)


def finish(plan: Plan, digest: str, described: dict[str, Any]) -> dict[str, Any]:
    """Writes manifest and summary of the finished shards, removes what the build went by; returns the summary."""
    place = plan.place
    notes = [_notes(place, index) for index in range(plan.count)]
    kinds = list(records.items(plan.languages))
    uniform = _write_counts(place, notes, kinds)
    listed = [{key: note[key] for key in ("path", "records", "bytes", "sha256", "items")} for note in notes]
    items = {kind: sum(note["items"][kind] for note in notes) for kind in kinds}
    languages = _total(notes, "languages")
    manifest.add(
        place.directory,
        place.split,
        {"shards": listed, "items": items, "uniform": uniform, "languages": languages, "build": digest},
    )
    summary = {
        "split": place.split,
        "source": described,
        "shards": plan.count,
        "records": sum(note["records"] for note in notes),
        "bytes": sum(note["bytes"] for note in notes),
        "items": items,
        "problems": _total(notes, "problems"),
        "removed": _total(notes, "removed"),
        "languages": languages,
        "sides": _total(notes, "sides"),
        "samples": _samples(notes),
    }
    written = json.dumps(summary, indent=1, ensure_ascii=False, default=str)
    shard_writer.write_atomically(summary_file(place), written.encode())
    tf.io.gfile.rmtree(place.work)
    return json.loads(written)


def _notes(place: Place, index: int) -> dict[str, Any]:
    with tf.io.gfile.GFile(place.notes(index)) as f:
        return json.load(f)


def _total(notes: list[dict[str, Any]], key: str) -> dict[str, int]:
    """The sums over all shards, the largest first."""
    total: collections.Counter[str] = collections.Counter()
    for note in notes:
        total.update(note[key])
    return dict(sorted(total.items(), key=lambda pair: (-pair[1], pair[0])))


def _samples(notes: list[dict[str, Any]]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for note in notes:
        for reason, samples in note["samples"].items():
            found[reason] = sorted([*found.get(reason, []), *samples], key=lambda s: s["key"])[:SAMPLES]
    return dict(sorted(found.items()))


def _write_counts(place: Place, notes: list[dict[str, Any]], kinds: list[str]) -> dict[str, int]:
    """Puts the shards' counts together; returns the kinds that every record has equally often."""
    writer = manifest.CountsWriter(place.directory, place.split, kinds, sum(note["records"] for note in notes))
    for index in range(len(notes)):
        with tf.io.gfile.GFile(place.counts(index), "rb") as f:
            writer.append(np.load(f))
    return writer.close()
