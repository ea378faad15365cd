"""The best-scoring part of a collection, exactly, without sorting or gathering it.

Every scored record has a *place*: 12 bytes, of which the first 4 order as its score does and the other 8 are a hash of
its id, so that equal scores have an order too, which says nothing about the records. The k-th highest place is found
two bytes at a time, from the left: a histogram over 65,536 values of those records that begin with what is known
already says what the next two bytes are. Six passes, whatever the number of records, and a histogram is all that
travels (radix selection).

WebLI kept the tenth with the best image-text similarity (Chen et al. 2022, section 3.2).
"""

import dataclasses
import fractions
import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from paligax.data.ingest import files
from paligax.data.ingest.reader import Record
from paligax.data.ingest.stage import Stage
from paligax.data.runtime import tf

_PLACE, _DIGIT = 12, 2  # bytes
_MAX_THRESHOLD_BYTES = 1 << 24
_INFINITY = 0x7F800000  # its bits in float32
Threshold = tuple[float, int]  # score, hash of the id: of the last one that is kept
ALL = ""  # the key of everything, where keys are not told apart

# What a threshold can be of its own for: name → the record's key.
KEYS: dict[str, Callable[[Record], str]] = {
    "": lambda record: ALL,
    "language": lambda record: next(iter(record["alt_text/lang"]), "") or record["text_lang"],
    "source": lambda record: record["source"],
}


def tie_hash(identity: str) -> int:
    """uint64 of an id, the same on every machine: decides between equal scores."""
    return int.from_bytes(hashlib.blake2b(identity.encode(), digest_size=8).digest(), "big")


def place(score: float, identity: str) -> bytes:
    """12 bytes that order as (float32(score), tie_hash(identity)) does. The score must not be NaN."""
    return _place(score, tie_hash(identity))


def _place(score: float, tie: int) -> bytes:
    try:
        (bits,) = struct.unpack(">I", struct.pack(">f", score + 0.0))  # adding 0 makes one zero of two
    except OverflowError:  # beyond float32
        bits = _INFINITY if score > 0 else _INFINITY | 0x80000000
    bits = bits ^ 0xFFFFFFFF if bits >> 31 else bits | 0x80000000
    return struct.pack(">IQ", bits, tie)


def _threshold(at: bytes) -> Threshold:
    bits, tie = struct.unpack(">IQ", at)
    bits = bits & 0x7FFFFFFF if bits >> 31 else bits ^ 0xFFFFFFFF
    return float(np.uint32(bits).view(np.float32)), tie


def kept_of(fraction: float, count: int) -> int:
    """ceil(fraction · count), of the decimal number that was written: 7 of 0.07 · 100, which floats make 8."""
    return math.ceil(fractions.Fraction(repr(float(fraction))) * count)


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction = {fraction!r}; expected a share above 0 and up to 1, like 0.1 for the best tenth.")


# ------------------------------------------------------------------------------------------------ finding thresholds


class TopFraction(beam.PTransform):
    """(key, score float32, id str) → (key, threshold) of every key that has a score.

    Exactly ceil(fraction · N) of the N scored records are at or above the threshold, where ids differ; records of one
    id and one score stay or go together. Scores that are NaN are in neither number: the counter "not scored" has them.

    Args:
      fraction: of the scored records; above 0, at most 1.
      per_key: find a threshold for each key by itself; else one for all, under the key ``ALL``.
    """

    def __init__(self, fraction: float, per_key: bool = False):
        super().__init__()
        _check_fraction(fraction)
        self._fraction, self._per_key = fraction, per_key

    def expand(self, scored: beam.PCollection) -> beam.PCollection:
        places = scored | "Places" >> beam.ParDo(_Places(self._per_key))
        totals = places | "Keys" >> beam.Keys() | "Count" >> beam.combiners.Count.PerElement()
        search = totals | "Start" >> beam.Map(_start, self._fraction)
        for step in range(_PLACE // _DIGIT):
            known = beam.pvalue.AsDict(search)
            histogram = (
                places
                | f"Digits {step}" >> beam.FlatMap(_digit, known)
                | f"Histogram {step}" >> beam.combiners.Count.PerElement()
                | f"By key {step}" >> beam.MapTuple(lambda at, number: (at[0], (at[1], number)))
            )
            both = {"search": search, "histogram": histogram} | f"Together {step}" >> beam.CoGroupByKey()
            search = both | f"Narrow {step}" >> beam.MapTuple(_narrow)
        return search | "Thresholds" >> beam.MapTuple(lambda key, found: (key, _threshold(found[0])))


class _Places(beam.DoFn):
    def __init__(self, per_key: bool):
        self._per_key = per_key
        self._not_scored = Metrics.counter("paligax", "not scored")

    def process(self, element: tuple[str, float, str]) -> Iterator[tuple[str, bytes]]:
        key, score, identity = element
        if math.isnan(score):
            self._not_scored.inc()
        else:
            yield (key if self._per_key else ALL), place(score, identity)


def _start(counted: tuple[str, int], fraction: float) -> tuple[str, tuple[bytes, int]]:
    """A search: what the wanted place begins with, and which one of those that begin so it is, from the top."""
    key, count = counted
    return key, (b"", kept_of(fraction, count))


def _digit(placed: tuple[str, bytes], known: Mapping[str, tuple[bytes, int]]) -> Iterator[tuple[str, bytes]]:
    """The next two bytes of a place that begins with what is known already."""
    key, at = placed
    prefix, _ = known[key]
    if at.startswith(prefix):
        yield key, at[len(prefix) : len(prefix) + _DIGIT]


def _narrow(key: str, found: Mapping[str, Iterable[Any]]) -> tuple[str, tuple[bytes, int]]:
    ((prefix, rank),) = found["search"]
    for digit, number in sorted(found["histogram"], reverse=True):
        if rank <= number:
            return key, (prefix + digit, rank)
        rank -= number
    raise AssertionError(f"Fewer places of {key!r} than were counted: the source changed between two passes.")


def thresholds_of(
    scores: np.ndarray, ids: Sequence[str], fraction: float, keys: Sequence[str] | None = None
) -> dict[str, Threshold]:
    """What ``TopFraction`` finds, of arrays in memory: scores float32[n], n ids, n keys or None for one threshold."""
    _check_fraction(fraction)
    scores = np.asarray(scores, np.float32)
    ties = np.array([tie_hash(identity) for identity in ids], np.uint64)
    names = np.full(len(scores), ALL) if keys is None else np.asarray(keys)
    found = {}
    for key in np.unique(names[~np.isnan(scores)]):
        here = (names == key) & ~np.isnan(scores)
        rank = kept_of(fraction, int(here.sum()))
        score = np.partition(scores[here], -rank)[-rank]
        rank -= int((scores[here] > score).sum())
        tied = ties[here][scores[here] == score]
        found[str(key)] = (float(score) + 0.0, int(np.partition(tied, -rank)[-rank]))
    return found


# ----------------------------------------------------------------------------------------------- applying thresholds


def scored(record: Record, key: str = "") -> tuple[str, float, str]:
    """A flat record → the (key, score, id) that ``TopFraction`` takes; ``key`` is a name of ``KEYS``."""
    return KEYS[key](record), float(record["score"]), record["id"]


def save_thresholds(thresholds: Mapping[str, Threshold], path: str) -> None:
    """Writes JSON: key → [score, hash as a hexadecimal number], to be named as ``KeepAbove.thresholds``."""
    with tf.io.gfile.GFile(path, "w") as f:
        f.write(json.dumps({key: [score, f"{tie:016x}"] for key, (score, tie) in sorted(thresholds.items())}, indent=1))


def load_thresholds(path: str) -> dict[str, Threshold]:
    """Raises FileNotFoundError, and ValueError where the file is not what ``save_thresholds`` writes."""
    stored = files.load_json(path, _MAX_THRESHOLD_BYTES)
    try:
        return {key: (float(score), int(tie, 16)) for key, (score, tie) in stored.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path!r} holds no thresholds ({error}): expected key → [score, hash].") from error


@dataclasses.dataclass
class KeepAbove(Stage):
    """Keeps the records at or above the threshold of their key.

    Removed are: "score below the top fraction", "not scored" (NaN), "no threshold for its key".

    Attributes:
      thresholds: as ``TopFraction`` finds them, or the JSON file that ``save_thresholds`` wrote.
      key: a name of ``KEYS``: whose thresholds they are.
    """

    thresholds: Mapping[str, Threshold] | str
    key: str = ""
    batch_size: int = 1024

    def __post_init__(self):
        if self.key not in KEYS:
            raise ValueError(f"key = {self.key!r}; known: {', '.join(map(repr, KEYS))}.")

    def setup(self) -> None:
        given = self.thresholds
        self._found = load_thresholds(given) if isinstance(given, str) else dict(given)

    def apply(self, records: list[Record]) -> list[str]:
        return [self._reason(*scored(record, self.key)) for record in records]

    def _reason(self, key: str, score: float, identity: str) -> str:
        if math.isnan(score):
            return "not scored"
        if key not in self._found:
            return "no threshold for its key"
        return "" if place(score, identity) >= _place(*self._found[key]) else "score below the top fraction"
