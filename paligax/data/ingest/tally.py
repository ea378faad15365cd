"""What happened to the records of one unit: how many, why some are not there, and some of these to look at.

Counts add up: read = written + dropped + removed, where dropped never came in and removed was a stage's choice.
"""

import base64
import collections
import dataclasses
import hashlib
import io
from collections.abc import Mapping
from typing import Any

from paligax import image as image_lib
from paligax.data.ingest.reader import RECORD, Problem, Record

SAMPLES = 8  # kept for people to look at, of each reason
THUMBNAIL = 96  # their longer side in pixels
MAX_LANGUAGES = 1000  # told apart: foreign codes may be anything
OTHERS = "others"


def _counter() -> Any:
    return dataclasses.field(default_factory=collections.Counter)


@dataclasses.dataclass
class Tally:
    """Counts and samples.

    Attributes:
      read: records that the reader handed on or told of as lost.
      written: of these.
      dropped: reason → records that didn't come in.
      removed: reason → records that a stage removed.
      reasons: reason → everything that was left out or changed: records, parts of them, files that end early.
      parts: "objects read", "objects left out" (of records that came in), "objects dropped" (with their record) → how
        many; of alt_text, ocr, objects, qa, labels and boxes.
      languages, sides: of what is written: "alt_text en" → texts, "256" → images whose shorter side is 256 … 511.
      samples: reason → some of what is counted under it.
    """

    read: int = 0
    written: int = 0
    dropped: collections.Counter = _counter()
    removed: collections.Counter = _counter()
    reasons: collections.Counter = _counter()
    parts: collections.Counter = _counter()
    languages: collections.Counter = _counter()
    sides: collections.Counter = _counter()
    samples: dict[str, list[dict[str, str]]] = dataclasses.field(default_factory=dict)

    def problem(self, problem: Problem) -> None:
        """Something that a reader met with."""
        self.reasons[problem.reason] += problem.number
        if problem.lost == RECORD:
            self.read += problem.number
            self.dropped[problem.reason] += problem.number
        self.sample(problem.reason, problem.where)

    def admitted(self, before: Mapping[str, int], after: Mapping[str, int] | None) -> None:
        """The parts of a record as it was read and as it came in; None: it didn't."""
        for part, number in before.items():
            self.parts[f"{part} read"] += number
            if after is None:
                self.parts[f"{part} dropped"] += number
            else:
                self.parts[f"{part} left out"] += number - after[part]

    def remove(self, reason: str, record: Record) -> None:
        """A flat record that a stage doesn't let pass."""
        self.removed[reason] += 1
        self.sample(reason, name_of(record), record)

    def sample(self, reason: str, name: str, record: Record | None = None) -> None:
        """Keeps the SAMPLES with the smallest hashes: as good as drawn, and the same in every build."""
        name = name.encode("utf-8", "replace").decode()  # foreign names may hold half a surrogate pair
        key = hashlib.sha256(f"{reason}/{name}".encode()).hexdigest()[:16]
        kept = self.samples.setdefault(reason, [])
        if len(kept) == SAMPLES and key >= kept[-1]["key"]:
            return
        kept.append({"key": key, "name": name, **(shown(record) if record else {})})
        kept.sort(key=lambda sample: sample["key"])
        del kept[SAMPLES:]

    def write(self, record: Record) -> None:
        """A flat record that is in the shard."""
        self.written += 1
        for key in ("alt_text/lang", "ocr/lang", "qa/lang"):
            for lang in record[key]:
                self._language(key.split("/")[0], lang)
        if record["text"]:
            self._language("text", record["text_lang"])
        if record["image"]:
            side = min(image_lib.size(record["image"]))
            self.sides[str(1 << (side.bit_length() - 1))] += 1

    def _language(self, kind: str, lang: str) -> None:
        name = f"{kind} {lang or 'und'}"
        known = name in self.languages or len(self.languages) < MAX_LANGUAGES
        self.languages[name if known else f"{kind} {OTHERS}"] += 1


def name_of(record: Record) -> str:
    """A record's id, for people."""
    name = record.get("id", "")
    return name.decode(errors="replace")[:200] if isinstance(name, bytes) else str(name)[:200]


def shown(record: Record) -> dict[str, str]:
    """What people look at of a flat record: "text", the first one; "score"; "picture", a small JPEG in base64."""
    texts = [*record["alt_text/text"], *record["qa/question"], *record["ocr/text"], record["text"]]
    seen = {"text": next((text for text in texts if text), "")[:300]}
    if record["score"] == record["score"]:
        seen["score"] = f"{record['score']:.4f}"
    if record["image"]:
        from PIL import Image

        try:
            with Image.open(io.BytesIO(record["image"])) as picture:
                picture.draft("RGB", (THUMBNAIL, THUMBNAIL))
                small = picture.convert("RGB")
                small.thumbnail((THUMBNAIL, THUMBNAIL))
                out = io.BytesIO()
                small.save(out, "JPEG", quality=70)
            seen["picture"] = base64.b64encode(out.getvalue()).decode()
        except Exception:  # noqa: BLE001  (decoders of foreign bytes raise anything; there is no picture then)
            pass
    return seen
