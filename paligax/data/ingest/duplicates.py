"""Near-duplicates of evaluation images, removed from training data.

WebLI leaves out near-duplicates of the train, validation and test images of 68 data sets, 0.36 % of its images (Chen et
al. 2022, section 3.2). Here a picture is reduced to a *perceptual hash* of two times 64 bits, and two pictures are
near-duplicates where few bits differ (`paligax.data.ingest.image_hash`).

The hashes of evaluation images are one file a data set: NAME.npy, uint64[n, views, 2], with NAME.names beside it, a
JSON string a line, which says where each image is from.
"""

import dataclasses
import functools
import json
import math
import os
import socket
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from paligax import image as image_lib
from paligax.data import records
from paligax.data.ingest import admission, files
from paligax.data.ingest.hash_index import HashIndex
from paligax.data.ingest.image_hash import VIEWS, perceptual_hash, views
from paligax.data.ingest.reader import Problem, Record
from paligax.data.ingest.stage import Stage
from paligax.data.runtime import tf

NAMES = ".names"
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_MAX_IMAGES = 1 << 26  # in one file; 6 GiB
_REMOVED = "near-duplicate of an evaluation image"
_UNHASHED = (OSError, ValueError, SyntaxError)


# ------------------------------------------------------------------------------------------- hashes of evaluation sets


def hash_images(source: str, destination: str) -> tuple[int, list[Problem]]:
    """Hashes the images of an evaluation set: each whole, mirrored, and without its rim.

    Args:
      source: a folder (searched with its subfolders for files of any image format), or a pattern of ArrayRecord shards
        of our records (``data/vqa/*.array_record*``).
      destination: of the hashes, NAME.npy; NAME.names is written beside it.

    Returns:
      (how many images are in, why others are not: "broken image", "nothing to see in it", …).

    Raises:
      FileNotFoundError: nothing matches the source.
      ValueError: none of it is an image, or the destination doesn't end in .npy.
    """
    if not destination.endswith(".npy"):
        raise ValueError(f"The hashes go to a file NAME.npy, not {destination!r}.")
    found, names, problems = [], [], []
    for name, data in _images(source):
        hashes = _hashes(data, name)
        if isinstance(hashes, Problem):
            problems.append(hashes)
        else:
            found.append(hashes)
            names.append(name)
    if not found:
        raise ValueError(f"{source!r} has no image with something to see in it; {len(problems)} could not be used.")
    with tf.io.gfile.GFile(destination, "wb") as f:
        np.save(f, np.array(found, np.uint64))
    with tf.io.gfile.GFile(destination.removesuffix(".npy") + NAMES, "w") as f:
        f.write("".join(json.dumps(name) + "\n" for name in names))
    return len(found), problems


def _hashes(data: bytes | Problem, name: str) -> list[int] | Problem:
    if isinstance(data, Problem):
        return data
    data, why = admission.sound_image(data)
    try:
        hashes = views(image_lib.decode(data)) if data else []
    except _UNHASHED:
        return Problem("broken image", name)
    if not data:
        return Problem(why[0], name)
    return hashes or Problem("nothing to see in it", name)


def _images(source: str) -> Iterator[tuple[str, bytes | Problem]]:
    """(name, image bytes or why there are none) of a folder's images or of the records of shards."""
    if tf.io.gfile.isdir(source):
        for folder, _, members in tf.io.gfile.walk(source):
            for member in sorted(members):
                if member.lower().endswith(_IMAGES):
                    yield os.path.relpath(os.path.join(folder, member), source), files.image_of(folder, member)
        return
    from array_record.python import array_record_module

    for path in files.matching(source):
        reader = array_record_module.ArrayRecordReader(path)
        for start in range(0, reader.num_records(), 64):
            for number, serialized in enumerate(reader.read(start, min(start + 64, reader.num_records())), start):
                record = records.decode(serialized)
                if record["image"]:
                    yield record["id"] or f"{path}:{number}", record["image"]
        reader.close()


@dataclasses.dataclass(frozen=True)
class _Known:
    """The hashes of all evaluation sets, and where each file's begin."""

    index: HashIndex
    paths: list[str]
    starts: np.ndarray

    def name(self, number: int) -> str:
        """NAME/image of a hash; the names of a file are read when one of them is asked for."""
        which = int(np.searchsorted(self.starts, number, side="right")) - 1
        path = self.paths[which]
        names = _names(path.removesuffix(".npy") + NAMES)
        within = (number - int(self.starts[which])) // VIEWS
        of_image = names[within] if within < len(names) else str(within)
        return f"{os.path.basename(path).removesuffix('.npy')}/{of_image}"


@functools.lru_cache(maxsize=1)
def _known(paths: str, radius: int, fine_radius: int) -> _Known:
    found = [path for path in files.matching(paths, [".npy"]) if path.endswith(".npy")]
    arrays = [_load(path) for path in found]
    starts = np.cumsum([0, *map(len, arrays)])[:-1]
    return _Known(HashIndex(np.concatenate(arrays), radius, fine_radius), found, starts)


def _load(path: str) -> np.ndarray:
    """uint64[n · views, 2]"""
    with files.open_file(path) as f:
        try:
            version = np.lib.format.read_magic(f)
            shape, by_columns, dtype = getattr(np.lib.format, f"read_array_header_{version[0]}_0")(f)
            if by_columns or dtype != np.uint64 or shape[1:] != (VIEWS, 2) or not 0 < shape[0] <= _MAX_IMAGES:
                raise ValueError(f"it has {dtype}{list(shape)}, expected uint64[n, {VIEWS}, 2]")
            size = 8 * math.prod(shape)
            data = f.read(size)
            if len(data) < size:
                raise ValueError(f"it is cut short, after {len(data)} of {size} bytes")
        except (ValueError, AttributeError, EOFError) as error:
            raise ValueError(f"{path!r} holds no hashes of images: {error}. Write it with hash_images.") from error
    return np.frombuffer(data, np.uint64).reshape(-1, 2)


@functools.lru_cache(maxsize=4)
def _names(path: str) -> list[str]:
    if not tf.io.gfile.exists(path):
        return []
    with tf.io.gfile.GFile(path) as f:
        return [json.loads(line) for line in f.read().splitlines()]


# -------------------------------------------------------------------------------------------------------------- stage


@dataclasses.dataclass
class RemoveNearDuplicates(Stage):
    """Removes records whose picture is nearly an evaluation image: "near-duplicate of an evaluation image".

    Records without a picture, and pictures with nothing to see in them, stay; one that cannot be decoded is removed as
    a "broken image".

    Attributes:
      hashes: files that ``hash_images`` wrote: NAME.npy, a pattern, a folder, or several with commas between.
      radius: coarse bits of 64 that may differ. With both defaults, all copies that were compressed, resized or made
        brighter were found in tests and 97 % of those that had lost up to 6 % of each side; of 12 million pairs of
        other pictures with photographs' statistics, none.
      fine_radius: fine bits of 64 that may differ.
      report: a folder for lists of what was removed, a JSON object a line: id, source, the evaluation image, distance.
        Each process writes a file of its own; what a Beam worker did twice is listed twice. "" writes none.
    """

    hashes: str
    radius: int = 6
    fine_radius: int = 16
    report: str = ""
    batch_size: int = 128

    def setup(self) -> None:
        _known(self.hashes, self.radius, self.fine_radius)

    def apply(self, records: list[Record]) -> list[str]:
        reasons = [""] * len(records)
        rows, asked = [], []
        for i, record in enumerate(records):
            if record["image"]:
                try:
                    value = perceptual_hash(image_lib.decode(record["image"]))
                except _UNHASHED:
                    reasons[i] = "broken image"
                    continue
                if value is not None:
                    rows.append(i)
                    asked.append(value)
        known = _known(self.hashes, self.radius, self.fine_radius)
        index, distance = known.index.nearest(np.array(asked, np.uint64).reshape(-1, 2))
        matches = []
        for i, number, bits in zip(rows, index.tolist(), distance.tolist(), strict=True):
            if number >= 0:
                reasons[i] = _REMOVED
                about = {"id": records[i]["id"], "source": records[i]["source"]}
                matches.append({**about, "image": known.name(number), "distance": bits})
        if matches and self.report:
            _report(self.report)(matches)
        return reasons


@functools.lru_cache(maxsize=1)
def _report(folder: str) -> Callable[[list[dict[str, Any]]], None]:
    """Appends matches to this process's own file in the folder."""
    tf.io.gfile.makedirs(folder)
    file = tf.io.gfile.GFile(os.path.join(folder, f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}.jsonl"), "w")

    def write(matches: list[dict[str, Any]]) -> None:
        file.write("".join(json.dumps(match, ensure_ascii=False) + "\n" for match in matches))
        file.flush()

    return write
