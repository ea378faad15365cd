"""Strings that somebody has read in the pictures already: a file of OCR results, put into records by their id."""

import dataclasses
import math
from typing import Any

from paligax.data.ingest.reader import Problem, Record
from paligax.data.ingest.readers import large_files
from paligax.data.ingest.stage import Stage
from paligax.data.items import UNKNOWN_LANGUAGE

MAX_STRINGS = 500
MAX_CHARACTERS = 1000  # of one string

Strings = list[tuple[str, tuple[float, ...]]]


@dataclasses.dataclass
class OcrOfFile(Stage):
    """Fills a record's ``ocr`` group with the strings that the file has for its id; other records stay as they are.

    Files of TextVQA and TextCaps (TextVQA_Rosetta_OCR_v0.2_train.json): {"data": [{"image_id", "ocr_tokens": [text],
    "ocr_info": [{"word", "bounding_box": {"top_left_x", "top_left_y", "width", "height"}}]}]}, sides relative to the
    picture. Lines of JSON of the same objects, or of {"id", "strings": [text]}, are taken too.

    Memory: the file's strings, some 100 bytes each, in each process.

    Attributes:
      path: the file.
    """

    path: str

    def setup(self) -> None:
        """Raises FileNotFoundError, and ValueError where the file is something else."""
        self._strings: dict[str, Strings] = {}
        for value in _entries(self.path):
            identity = value.get("image_id", value.get("id")) if isinstance(value, dict) else None
            if isinstance(identity, (str, int)):
                self._strings[str(identity)] = _strings_of(value)
        if not self._strings:
            raise ValueError(
                f"{self.path!r} has no OCR strings: expected {{'data': [{{'image_id', 'ocr_info' or 'ocr_tokens'}}]}}, "
                "or lines of such objects."
            )

    def apply(self, records: list[Record]) -> list[str]:
        for record in records:
            if strings := self._strings.get(record["id"]):
                record["ocr/text"] = [text for text, _ in strings]
                record["ocr/bbox"] = [list(box) for _, box in strings]
                record["ocr/lang"] = [UNKNOWN_LANGUAGE] * len(strings)
        return [""] * len(records)


def _entries(path: str):
    large_files.require(path)
    if path.endswith((".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")):
        for _, value in large_files.json_lines(path):
            if not isinstance(value, Problem):
                yield value
        return
    for name, _, value in large_files.json_items(path):
        if name in ("", "data"):
            yield value


def _strings_of(value: dict[str, Any]) -> Strings:
    info = value.get("ocr_info")
    if isinstance(info, list) and info:
        found = [(one.get("word"), _box(one.get("bounding_box"))) for one in info if isinstance(one, dict)]
    else:
        given = value.get("ocr_tokens", value.get("strings"))
        found = [(text, (math.nan,) * 4) for text in given] if isinstance(given, list) else []
    sound = [(" ".join(text.replace("\0", "").split()), box) for text, box in found if isinstance(text, str)]
    return [(text[:MAX_CHARACTERS], box) for text, box in sound if text][:MAX_STRINGS]


def _box(box: Any) -> tuple[float, ...]:
    """(ymin, xmin, ymax, xmax), cut at the edges; NaNs where there is none."""
    try:
        left, top, width, height = (float(box[key]) for key in ("top_left_x", "top_left_y", "width", "height"))
    except (TypeError, KeyError, ValueError, OverflowError):
        return (math.nan,) * 4
    sides = (top, left, top + height, left + width)
    if not all(map(math.isfinite, sides)) or width < 0 or height < 0:
        return (math.nan,) * 4
    return tuple(min(max(side, 0.0), 1.0) for side in sides)
