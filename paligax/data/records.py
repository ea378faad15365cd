"""Records in a task's graph: unpacking them, choosing what an index entry names, marking what cannot be used.

This is the door to what a record is: its schema, and reading, writing and checking one on the host, are in
`paligax.data.schema`; the kinds of index entries in `paligax.data.items`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paligax.data.runtime import seqio, tf
from paligax.data.schema import (
    DEFAULTS,
    GROUPS,
    SCALARS,
    SEQUENCES,
    Record,
    check,
    decode,
    empty,
    encode,
    features,
    flatten,
)
from paligax.data.shards import write_manifest

__all__ = [
    "GROUPS",
    "SCALARS",
    "SEQUENCES",
    "Record",
    "check",
    "decode",
    "empty",
    "encode",
    "features",
    "flatten",
    "keep_languages",
    "parse",
    "pick",
    "pick_language",
    "pick_question",
    "skip_if",
    "unpack",
    "usable",
    "write_manifest",
]


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """One serialized record → flat dict of tensors (``"qa/question"`` string[n], ``"ocr/bbox"`` float32[n, 4], …).

    Fields that the record lacks come back empty: "" for text, NaN for ``score``, no items for sequences.
    """
    spec: dict[str, Any] = {
        key: tf.io.FixedLenFeature((), dtype, default_value=DEFAULTS[dtype]) for key, dtype in SCALARS.items()
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
        nothing = tf.constant(DEFAULTS[dtype], dtype, (1, *shape))
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


def pick_question(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The question that an entry of "question" names, with every answer that the record gives to it.

    Becomes scalars: "qa/question" and "qa/lang"; "qa/answer" is string[n], in the record's order and with repetitions,
    by which people's answers are weighed. A question that the record doesn't have skips the example ("no qa").
    """
    langs, questions = tf.unique(example["qa/lang"], tf.int64), tf.unique(example["qa/question"], tf.int64)
    pairs = tf.unique(langs.idx * tf.size(questions.y, tf.int64) + questions.idx, tf.int64)
    asked = pairs.idx == example["item"]
    first = tf.argmax(tf.concat([asked, [True]], axis=0))  # one behind the last where nothing is asked
    picked = {**example, "qa/answer": tf.boolean_mask(example["qa/answer"], asked)}
    for key in ("qa/lang", "qa/question"):
        picked[key] = tf.gather(tf.concat([example[key], [""]], axis=0), first)
    return skip_if(picked, ~tf.reduce_any(asked), "no qa")
