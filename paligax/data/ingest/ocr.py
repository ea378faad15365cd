"""The strings that stand in a picture, read where the source doesn't say them.

WebLI's came from an automatic service. Here RapidOCR reads them (the package rapidocr-onnxruntime carries PaddleOCR's
PP-OCRv4 models inside; nothing is downloaded), or any function named "module:function". Those models read Chinese and
English; accents of other Latin alphabets get lost, and other scripts aren't seen. About a picture a second and core.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paligax import image as image_lib
from paligax.data.ingest import named
from paligax.data.ingest.languages import IdentifyLanguages
from paligax.data.ingest.reader import Record
from paligax.data.ingest.stage import Stage

Box = tuple[float, float, float, float]  # ymin, xmin, ymax, xmax
# uint8[H, W, 3] (red, green, blue) → (text, box in pixels, confidence from 0 to 1) of each string, in reading order
TextReader = Callable[[np.ndarray], Sequence[tuple[str, Box, float]]]
RAPIDOCR = "paligax.data.ingest.ocr:rapidocr"
_TOO_SMALL = 8  # pixels of a side in which no letter stands


def rapidocr(image: np.ndarray) -> list[tuple[str, Box, float]]:
    """PP-OCRv4 (detection, direction, recognition) on the CPU, with one thread: ingest runs a process for each core."""
    found, _ = _rapidocr()(np.ascontiguousarray(image[:, :, ::-1]))  # it takes blue, green, red
    strings = []
    for corners, text, confidence in found or []:
        x, y = np.asarray(corners, np.float64).reshape(-1, 2).T
        strings.append((text, (y.min(), x.min(), y.max(), x.max()), float(confidence)))
    return strings


@functools.cache
def _rapidocr():
    try:
        import rapidocr_onnxruntime
    except ImportError as error:
        raise ImportError(
            f"Reading text needs rapidocr-onnxruntime ({error}): pip install 'paligax[ocr]'; or name another reader."
        ) from error
    return rapidocr_onnxruntime.RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)


@dataclasses.dataclass
class ReadText(Stage):
    """Fills a record's ``ocr`` group with what is read in its picture, each string with box and language.

    Removed are records whose picture cannot be decoded ("broken image") or at which the reader fails ("reading text
    failed"): a record without its strings would say that there are none.

    Attributes:
      only_missing: leave records as they are that have strings already; else theirs are replaced.
      min_confidence: strings of which the reader is less sure are left out.
      max_strings: the surest of so many are kept, in reading order.
      languages: how the strings' languages are found.
      reader: "module:function" of a function uint8[H, W, 3] → [(text, (ymin, xmin, ymax, xmax) in pixels, confidence)].
    """

    only_missing: bool = True
    min_confidence: float = 0.5
    max_strings: int = 500
    languages: IdentifyLanguages = dataclasses.field(default_factory=IdentifyLanguages)
    reader: str = RAPIDOCR
    batch_size: int = 16

    def setup(self) -> None:
        """Raises ValueError or ImportError where there is no such reader, or it cannot read an empty picture."""
        _reader(self.reader)(np.full((32, 64, 3), 255, np.uint8))
        self.languages.setup()

    def apply(self, records: list[Record]) -> list[str]:
        return [self._fill(r) if r["image"] and not (self.only_missing and r["ocr/text"]) else "" for r in records]

    def _fill(self, record: Record) -> str:
        try:
            image = image_lib.decode(record["image"])
        except (OSError, ValueError, SyntaxError):
            return "broken image"
        try:
            strings = self._strings(image)
        except Exception:  # noqa: BLE001  (engines raise anything at odd pictures; all of it is counted)
            return "reading text failed"
        record["ocr/text"] = [text for text, _, _ in strings]
        record["ocr/bbox"] = [box for _, box, _ in strings]
        record["ocr/lang"] = self.languages.of_together(record["ocr/text"])
        return ""

    def _strings(self, image: np.ndarray) -> list[tuple[str, list[float], float]]:
        height, width = image.shape[:2]
        if min(height, width) < _TOO_SMALL:
            return []
        strings = []
        for text, box, confidence in _reader(self.reader)(image):
            text = " ".join(text.replace("\0", "").split())
            if text and confidence >= self.min_confidence:
                strings.append((text, _relative(box, height, width), confidence))
        surest = sorted(range(len(strings)), key=lambda i: -strings[i][2])[: self.max_strings]
        return [strings[i] for i in sorted(surest)]


def _relative(box: Any, height: int, width: int) -> list[float]:
    """Box in pixels → in [0, 1], cut at the edges; raises ValueError where it is none."""
    ymin, xmin, ymax, xmax = (float(side) for side in box)
    if not all(map(math.isfinite, (ymin, xmin, ymax, xmax))) or ymin > ymax or xmin > xmax:
        raise ValueError(f"The text reader gave the box {box}; expected ymin, xmin, ymax, xmax in pixels.")
    return np.clip([ymin / height, xmin / width, ymax / height, xmax / width], 0, 1).tolist()


@functools.cache
def _reader(place: str) -> TextReader:
    return named.function(place, "a text reader (image → [(text, box, confidence)])")
