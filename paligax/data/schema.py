"""The record: what one example on disk holds; reading, writing and checking it on the host.

A record is a ``tf.train.Example`` with the keys that tfds gives this feature dictionary, so that a tfds builder and
``encode`` write the same thing to the parser:

    id, source: text        image: JPEG or PNG bytes as they came, empty for text-only records
    image_crc: CRC-32 of these bytes when the record was made, -1 where nobody took it
    alt_text: [(lang, text)]                    ocr: [(lang, text, bbox)]
    objects: [(label, bbox, confidence, verified_absent)]    bbox is NaN x 4 where there is no box
    qa: [(lang, question, answer)]              labels: [text], further classification labels
    text, text_lang: a pre-cut segment of a text-only record        score: image-text similarity, NaN if not scored

Boxes are ymin, xmin, ymax, xmax in [0, 1].
"""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from paligax import image as image_lib
from paligax.data.runtime import tf

# Flat key → (dtype, shape of one item). A group (before the slash) and `labels` hold any number of items.
SCALARS: dict[str, tf.DType] = {
    "id": tf.string,
    "image": tf.string,
    "image_crc": tf.int64,
    "text": tf.string,
    "text_lang": tf.string,
    "score": tf.float32,
    "source": tf.string,
}
SEQUENCES: dict[str, tuple[tf.DType, tuple[int, ...]]] = {
    "alt_text/lang": (tf.string, ()),
    "alt_text/text": (tf.string, ()),
    "ocr/lang": (tf.string, ()),
    "ocr/text": (tf.string, ()),
    "ocr/bbox": (tf.float32, (4,)),
    "objects/label": (tf.string, ()),
    "objects/bbox": (tf.float32, (4,)),
    "objects/confidence": (tf.float32, ()),
    "objects/verified_absent": (tf.bool, ()),
    "qa/lang": (tf.string, ()),
    "qa/question": (tf.string, ()),
    "qa/answer": (tf.string, ()),
    "labels": (tf.string, ()),
}
GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(key.split("/")[1] for key in SEQUENCES if key.startswith(group + "/"))
    for group in ("alt_text", "ocr", "objects", "qa")
}
DEFAULTS = {tf.string: "", tf.float32: math.nan, tf.bool: False, tf.int64: -1}
_NO_BOX = [math.nan] * 4

Record = Mapping[str, Any]


def empty(dtype: tf.DType) -> Any:
    """What a missing value of this type is read as: "", NaN or False."""
    return DEFAULTS[dtype]


def encode(record: Record) -> bytes:
    """Serializes a record given as tfds takes it; a group is a list of dicts or a dict of lists. No tfds needed.

    Fields left out are empty. Raises ValueError with the nearest known name for a field that the schema lacks.
    """
    flat = flatten(record)
    if flat["image"] and flat["image_crc"] < 0:
        flat["image_crc"] = zlib.crc32(flat["image"])
    features = {}
    for key in (*SCALARS, *SEQUENCES):
        dtype = SCALARS[key] if key in SCALARS else SEQUENCES[key][0]
        value = [flat[key]] if key in SCALARS else flat[key]
        if dtype is tf.string:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[_to_bytes(v) for v in value]))
        elif dtype in (tf.bool, tf.int64):
            feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[int(v) for v in value]))
        else:
            array = np.asarray(value, np.float32).reshape(-1)
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=array))
        features[key] = feature
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)


def decode(serialized: bytes) -> dict[str, Any]:
    """One serialized record → flat dict of Python values: str (``image`` bytes), lists, float32[n, 4] boxes."""
    stored = tf.train.Example.FromString(serialized).features.feature
    record: dict[str, Any] = {}
    for key, dtype in SCALARS.items():
        values = _values(stored, key, dtype)
        value = values[0] if values else DEFAULTS[dtype]
        record[key] = bytes(value or b"") if key == "image" else _to_text(value)
    for key, (dtype, shape) in SEQUENCES.items():
        values = _values(stored, key, dtype)
        record[key] = np.asarray(values, np.float32).reshape(-1, *shape) if shape else [_to_text(v) for v in values]
        if dtype is tf.bool:
            record[key] = [bool(v) for v in values]
    return record


def check(record: Record) -> str:
    """Why a record (nested or flat) cannot be used, or "".

    "broken image", "not a JPEG or PNG", "checksum differs", "image too large", "uneven groups", "bad box", "empty
    record".
    """
    flat = flatten(record)
    if flat["image"]:
        problem = image_lib.problem(flat["image"])
        if problem:
            return problem
        if 0 <= flat["image_crc"] != zlib.crc32(flat["image"]):
            return "checksum differs"
    for group, names in GROUPS.items():
        lengths = {name: len(flat[f"{group}/{name}"]) for name in names}
        if len(set(lengths.values())) > 1:
            return "uneven groups"
    for key in ("ocr/bbox", "objects/bbox"):
        boxes = np.asarray(flat[key], np.float32).reshape(-1, 4)
        boxes = boxes[~np.isnan(boxes).all(axis=1)]
        if not np.all((boxes >= 0) & (boxes <= 1)) or not np.all(boxes[:, :2] <= boxes[:, 2:]):
            return "bad box"
    if not flat["image"] and not flat["text"]:
        return "empty record"
    return ""


def flatten(record: Record) -> dict[str, Any]:
    """Nested or flat record → flat dict with every key of the schema, missing ones empty."""
    flat: dict[str, Any] = {key: DEFAULTS[dtype] for key, dtype in SCALARS.items()} | {key: [] for key in SEQUENCES}
    flat["image"] = b""
    for key, value in record.items():
        if key in flat:
            flat[key] = value
        elif key in GROUPS:
            names = value.keys() if isinstance(value, Mapping) else {name for item in value for name in item}
            for name in names:
                _known(f"{key}/{name}", flat)
            for name in GROUPS[key]:
                full = f"{key}/{name}"
                if isinstance(value, Mapping):
                    flat[full] = list(value.get(name, []))
                else:
                    empty = _NO_BOX if name == "bbox" else DEFAULTS[SEQUENCES[full][0]]
                    flat[full] = [item.get(name, empty) for item in value]
        else:
            _known(key, {**flat, **GROUPS})
    return flat


def features() -> Any:
    """The schema as a tfds FeaturesDict, for builders."""
    import tensorflow_datasets as tfds

    text, box = tfds.features.Text(), tfds.features.Tensor(shape=(4,), dtype=np.float32)
    return tfds.features.FeaturesDict(
        {
            "id": text,
            "image": tfds.features.Image(shape=(None, None, 3)),
            "alt_text": tfds.features.Sequence({"lang": text, "text": text}),
            "ocr": tfds.features.Sequence({"lang": text, "text": text, "bbox": box}),
            "objects": tfds.features.Sequence(
                {"label": text, "bbox": box, "confidence": np.float32, "verified_absent": np.bool_}
            ),
            "qa": tfds.features.Sequence({"lang": text, "question": text, "answer": text}),
            "text": text,
            "text_lang": text,
            "score": np.float32,
            "source": text,
            "labels": tfds.features.Sequence(text),
        }
    )


def _known(key: str, names: Mapping[str, Any]) -> None:
    if key not in names:
        import difflib

        near = difflib.get_close_matches(key, names, 1)
        raise ValueError(
            f"A record has no field {key!r}{f'; did you mean {near[0]!r}?' if near else ''} Fields: {', '.join(names)}."
        )


def _values(stored: Any, key: str, dtype: tf.DType) -> list[Any]:
    if key not in stored:
        return []
    kind = {tf.string: "bytes_list", tf.float32: "float_list"}.get(dtype, "int64_list")
    return list(getattr(stored[key], kind).value)


def _to_bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _to_text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
