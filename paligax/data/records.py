"""The record: what one example on disk holds; reading, writing and checking it.

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

import functools
import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from paligax import image as image_lib
from paligax.data.runtime import seqio, tf

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
_DEFAULTS = {tf.string: "", tf.float32: math.nan, tf.bool: False, tf.int64: -1}
_NO_BOX = [math.nan] * 4

Record = Mapping[str, Any]


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(v for v in values if v))  # in order of appearance, as pick_language counts them


# What can be an index entry: name → how many a record (as `decode` gives it) has. A task names one of these, and each
# is one training position an epoch: a record with three questions is three positions for VQA.
ITEMS: dict[str, Callable[[Record], int]] = {
    "record": lambda r: 1,
    "image": lambda r: int(bool(r["image"])),
    "alt_text": lambda r: len(r["alt_text/text"]) if r["image"] else 0,
    "ocr": lambda r: int(bool(r["image"]) and len(r["ocr/text"]) > 0),
    "ocr_lang": lambda r: len(_distinct(r["ocr/lang"])) if r["image"] else 0,
    "qa": lambda r: len(r["qa/question"]) if r["image"] else 0,
    "objects": lambda r: int(bool(r["image"]) and len(r["objects/label"]) > 0),
    "detection": lambda r: int(bool(r["image"]) and bool(np.any(~np.isnan(np.asarray(r["objects/bbox"]))))),
    "labels": lambda r: int(bool(r["image"]) and len(r["labels"]) + len(r["objects/label"]) > 0),
    "text": lambda r: int(bool(r["text"])),
}

# Kinds whose entries have a language: name → the language of each entry that ITEMS counts, in that order. "qa:de" is a
# kind of its own: its n-th entry is the record's n-th German question. Codes are compared as they stand in the record.
LANGUAGES_OF_ITEMS: dict[str, Callable[[Record], list[str]]] = {
    "alt_text": lambda r: list(r["alt_text/lang"]) if r["image"] else [],
    "ocr_lang": lambda r: _distinct(r["ocr/lang"]) if r["image"] else [],
    "qa": lambda r: list(r["qa/lang"]) if r["image"] else [],
    "text": lambda r: [r["text_lang"]] if r["text"] else [],
}
ALWAYS_COUNTED = "en"
UNKNOWN_LANGUAGE = "und"


def _of_language(kind: str, language: str) -> Callable[[Record], int]:
    return lambda r: LANGUAGES_OF_ITEMS[kind](r).count(language)


@functools.cache
def items(languages: tuple[str, ...] = ()) -> dict[str, Callable[[Record], int]]:
    """ITEMS, and the kinds of these languages beside English's: "alt_text:de", "ocr_lang:de", "qa:de", "text:de".

    Raises ValueError for what is no language code: kinds are names of files.
    """
    for language in languages:
        if not re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", language):
            raise ValueError(
                f"{language!r} is no language code; expected one as 'de', 'fil' or 'zh', as records have it."
            )
    more = {items_in(kind, (language,)): _of_language(kind, language) for language in languages for kind in _KINDS}
    return ITEMS | more


def items_in(kind: str, languages: Sequence[str]) -> str:
    """The kind whose entries are those of ``kind`` in any of these languages: "qa:de", "qa:de+fr".

    What a kind of several languages counts is the sum of what their own count. A task over it needs
    ``keep_languages(languages)`` behind ``unpack``. Raises ValueError for a kind whose entries have no language.
    """
    if kind not in _KINDS:
        raise ValueError(f"Index entries {kind!r} have no language; those of {', '.join(_KINDS)} have one.")
    return f"{kind}:{'+'.join(dict.fromkeys(languages))}"


_KINDS = tuple(LANGUAGES_OF_ITEMS)
ITEMS |= {items_in(kind, (ALWAYS_COUNTED,)): _of_language(kind, ALWAYS_COUNTED) for kind in _KINDS}


def count_items(record: Record, languages: tuple[str, ...] = ()) -> list[int]:
    """How many index entries of each kind of ``items(languages)`` a record has, at most 65,535."""
    return [min(number(record), 65_535) for number in items(languages).values()]


def empty(dtype: tf.DType) -> Any:
    """What a missing value of this type is read as: "", NaN or False."""
    return _DEFAULTS[dtype]


# ------------------------------------------------------------------------------------------------ in a task's graph


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """One serialized record → flat dict of tensors (``"qa/question"`` string[n], ``"ocr/bbox"`` float32[n, 4], …).

    Fields that the record lacks come back empty: "" for text, NaN for ``score``, no items for sequences.
    """
    spec: dict[str, Any] = {
        key: tf.io.FixedLenFeature((), dtype, default_value=_DEFAULTS[dtype]) for key, dtype in SCALARS.items()
    }
    for key, (dtype, shape) in SEQUENCES.items():
        stored = tf.int64 if dtype is tf.bool else dtype
        spec[key] = tf.io.FixedLenSequenceFeature(shape, stored, allow_missing=True)
    example = tf.io.parse_single_example(serialized, spec)
    for key, (dtype, _) in SEQUENCES.items():
        if dtype is tf.bool:
            example[key] = tf.cast(example[key], tf.bool)
    return example


@seqio.map_over_dataset
def unpack(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The first preprocessor of a task: ``{"record", "item", "seed"}`` → the parsed record's fields, item and seed.

    Adds ``skip``: "" for a usable record, else why not ("uneven groups": three questions but two answers). An image
    that is broken is found when it is decoded.
    """
    fields = parse(example["record"])
    sizes = {key: tf.size(fields[key]) // math.prod(shape) for key, (_, shape) in SEQUENCES.items()}
    first = [sizes[f"{group}/{names[0]}"] for group, names in GROUPS.items() for _ in names[1:]]
    other = [sizes[f"{group}/{name}"] for group, names in GROUPS.items() for name in names[1:]]
    skip = tf.where(tf.reduce_all(tf.stack(first) == tf.stack(other)), "", "uneven groups")
    return {**fields, "item": example["item"], "seed": example["seed"], "skip": skip}


def keep_languages(languages: Sequence[str]) -> Callable:
    """The preprocessor behind ``unpack`` of a task over ``items_in(kind, languages)``: leaves what is in these.

    Alt-texts, OCR strings and questions in other languages go, so that the index entry's item counts what is left; a
    text segment in another language skips the example ("other language").
    """

    def is_wanted(langs: tf.Tensor) -> tf.Tensor:
        return tf.reduce_any(langs[..., None] == tf.constant(list(languages)), axis=-1)

    @seqio.map_over_dataset
    def keep_languages(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        kept = dict(example)
        for group in ("alt_text", "ocr", "qa"):
            of_group = is_wanted(example[f"{group}/lang"])
            for name in GROUPS[group]:
                kept[f"{group}/{name}"] = tf.boolean_mask(example[f"{group}/{name}"], of_group)
        return skip_if(kept, (kept["text"] != "") & ~is_wanted(kept["text_lang"]), "other language")

    return keep_languages


def skip_if(example: dict[str, tf.Tensor], condition: tf.Tensor, reason: str) -> dict[str, tf.Tensor]:
    """Marks the example as unusable where ``condition`` (bool scalar) holds; the first reason found stays.

    The row keeps its place in the batch with weight 0, and is counted under ``reason``.
    """
    skip = example.get("skip", tf.constant(""))
    return {**example, "skip": tf.where((skip == "") & condition, reason, skip)}


def usable(example: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """bool scalar: nothing has marked the example as unusable so far."""
    return example["skip"] == ""


def pick(example: dict[str, tf.Tensor], group: str) -> dict[str, tf.Tensor]:
    """Replaces a group by the one item that the index entry names: ``pick(e, "qa")["qa/question"]`` is a scalar.

    An item that the record doesn't have gives empty values and skips the example ("no qa").
    """
    item = tf.cast(example["item"], tf.int32)
    count = tf.size(example[f"{group}/{GROUPS[group][0]}"])
    index = tf.minimum(item, count)
    picked = dict(example)
    for key in (f"{group}/{name}" for name in GROUPS[group]):
        dtype, shape = SEQUENCES[key]
        nothing = tf.constant(_DEFAULTS[dtype], dtype, (1, *shape))
        picked[key] = tf.gather(tf.concat([example[key], nothing], axis=0), index)
    return skip_if(picked, item >= count, f"no {group}")


def pick_language(example: dict[str, tf.Tensor], group: str) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """The language that an entry of ``"<group>_lang"`` names: the item-th distinct one, in order of appearance.

    Returns the example (skipped with "no <group>" where there is none) and the language, string scalar.
    """
    languages = tf.unique(tf.boolean_mask(example[f"{group}/lang"], example[f"{group}/lang"] != "")).y
    item, count = tf.cast(example["item"], tf.int32), tf.size(languages)
    language = tf.gather(tf.concat([languages, [""]], axis=0), tf.minimum(item, count))
    return skip_if(example, item >= count, f"no {group}"), language


# ----------------------------------------------------------------------------------------------------- on the host


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
        value = values[0] if values else _DEFAULTS[dtype]
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
    flat: dict[str, Any] = {key: _DEFAULTS[dtype] for key, dtype in SCALARS.items()} | {key: [] for key in SEQUENCES}
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
                    empty = _NO_BOX if name == "bbox" else _DEFAULTS[SEQUENCES[full][0]]
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


def write_manifest(directory: str, languages: Sequence[str] = ()) -> str:
    """Counts every shard in a directory and writes its manifest; see paligax.data.shards.write_manifest."""
    from paligax.data import shards

    return shards.write_manifest(directory, languages)


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
