"""Objects of an image on their way from columns to a record: 37 bytes each while they are gathered (see grouping).

A box that isn't made of finite numbers is kept as infinite, which is counted as a bad box where records come in; NaN
means that an object has no box.
"""

import base64
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from paligax import image as image_lib
from paligax.data.ingest.reader import PART, Problem
from paligax.data.ingest.readers.grouping import Dealt, Keys, Problems, Rows

NO_BOX = (math.nan,) * 4
BAD_BOX = (math.inf,) * 4
SAME_SHAPE = 0.02  # how much width : height may differ from what was annotated: a resized copy's rounding


def object_rows() -> Rows:
    """Columns: class int32; ymin, xmin, ymax, xmax float32; confidence float32; verified absent int8."""
    return Rows("ifffffb")


def corners(box: Any) -> tuple[float, float, float, float]:
    """[x, y, width, height] → (ymin, xmin, ymax, xmax); BAD_BOX where it isn't four numbers."""
    try:
        x, y, width, height = map(float, box if isinstance(box, list) else ())
        found = (y, x, y + height, x + width)
    except (TypeError, ValueError, OverflowError):
        return BAD_BOX
    return found if all(map(math.isfinite, found)) else BAD_BOX


def note_nameless(problems: Problems, objects: Rows, classes: Keys, names: Sequence[str], path: str) -> None:
    """Notes a problem for each object of a class without a name; ``pack`` leaves them out."""
    counts = np.bincount(objects.column(0), minlength=len(names))
    for number in np.flatnonzero(counts):
        if not names[number]:
            where = f"{path}: class {classes.keys[number]}"
            problems.add("object of an unknown class", where, many=int(counts[number]))


def pack(objects: Dealt, image: int, names: Sequence[str]) -> dict[str, Any]:
    """The objects of an image as a unit carries them, of classes that have a name."""
    return pack_columns(objects.columns(image), names)


def pack_columns(columns: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    """Columns of object_rows → {"labels": names, "rows": float32[n, 6] in base64}.

    The six are ymin, xmin, ymax, xmax, confidence, verified absent.
    """
    classes, *columns = columns
    labels = [names[number] for number in classes]
    rows = np.stack([np.asarray(column, "<f4") for column in columns], axis=1)
    rows = rows[[bool(label) for label in labels]] if not all(labels) else rows
    return {"labels": [label for label in labels if label], "rows": base64.b64encode(rows.tobytes()).decode()}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    """float64[n, 6] of what ``pack`` made."""
    return np.frombuffer(base64.b64decode(packed["rows"]), "<f4").reshape(-1, 6).astype(np.float64)


def group(labels: Sequence[str], rows: np.ndarray) -> dict[str, Any]:
    """The record's `objects`, of labels and float[n, 6] as ``unpack`` gives it, with relative boxes."""
    return {
        "label": list(labels),
        "bbox": rows[:, :4].astype(np.float32).tolist(),
        "confidence": rows[:, 4].tolist(),
        "verified_absent": (rows[:, 5] != 0).tolist(),
    }


def relative(
    packed: dict[str, Any], image: bytes, annotated: tuple[int, int], where: str
) -> tuple[dict[str, Any], list[Problem]]:
    """What ``pack`` made of boxes in pixels → (the record's `objects`, why these have no boxes).

    Args:
      image: the file's bytes.
      annotated: (height, width) to which the boxes belong; 0 where that isn't known, which takes the file's own.

    Boxes are left out where neither size is known, and where the file has another shape than what was annotated
    (cropped, or lying on its side): they would lie elsewhere. A copy that was merely resized is fine.
    """
    rows, (height, width) = unpack(packed), image_lib.size(image)
    why = ""
    if min(annotated) > 0 and min(height, width) > 0:
        one, other = annotated[0] * width, annotated[1] * height
        why = "image of another shape than annotated" if abs(one - other) > SAME_SHAPE * max(one, other) else ""
    if min(annotated) > 0:
        height, width = annotated
    elif min(height, width) < 1:
        why = "image size unknown"
    if why:
        boxed = int((~np.isnan(rows[:, :4])).any(axis=1).sum())
        rows[:, :4] = math.nan
        return group(packed["labels"], rows), [Problem(why, where, PART, boxed)] if boxed else []
    rows[:, :4] /= [height, width, height, width]
    return group(packed["labels"], rows), []


def turned(boxes: np.ndarray, degrees: int) -> np.ndarray:
    """Boxes [n, 4], ymin xmin ymax xmax in [0, 1], of an image that is turned counterclockwise by right angles.

    What was at the right is then at the top: (y, x) → (1 - x, y), for each right angle.
    """
    for _ in range(degrees // 90):
        ymin, xmin, ymax, xmax = boxes.T
        boxes = np.stack([1 - xmax, ymin, 1 - xmin, ymax], axis=1)
    return boxes


def pixels(length: Any) -> int:
    """The length of an image's side as an annotation gives it; 0 where it gives none."""
    return int(length) if isinstance(length, (int, float)) and 1 <= length < 1 << 24 else 0
