"""Boxes as text, and average precision of generated boxes.

A box is written `ymin xmin ymax xmax class`, coordinates as integers 0 … bins - 1 of the image's height and width,
boxes one after the other: `10 20 90 100 cat 20 30 100 100 dog`.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from paligax.metrics.text import normalise

COCO_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
_RECALLS = np.linspace(0, 1, 101)  # COCO's recall levels
_ROUNDING = 1e-9  # an overlap that misses a threshold by so little equals it: coordinates are fractions of the image

# What is wrong with a piece of generated text that is no box; the first that is true of it.
PROBLEMS = (
    "no_coordinates",  # words at the very beginning
    "cut_off",  # numbers at the end, without a class
    "too_few_coordinates",  # fewer than four numbers before the class
    "out_of_range",  # a number beyond bins - 1
    "reversed",  # ymin > ymax or xmin > xmax
    "surplus_numbers",  # numbers before the last four, with no class before them that they could belong to
)


@dataclasses.dataclass(frozen=True)
class Boxes:
    """The boxes of one image.

    Attributes:
      boxes: float[n, 4]; ymin, xmin, ymax, xmax in [0, 1].
      labels: class of each box.
      scores: float[n]; confidence. None: all equal, as in generated text, which ranks boxes by image, then by place.
      malformed: number of pieces of the text that were no box.
      problems: the same apart by kind (PROBLEMS), as far as they occur.
    """

    boxes: np.ndarray
    labels: tuple[str, ...]
    scores: np.ndarray | None = None
    malformed: int = 0
    problems: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "boxes", np.asarray(self.boxes, np.float64).reshape(-1, 4))
        if len(self.boxes) != len(self.labels):
            raise ValueError(f"{len(self.boxes)} boxes have {len(self.labels)} labels; give each box one label.")


def format_boxes(boxes: Iterable[Sequence[float]], labels: Iterable[str], bins: int = 1000) -> str:
    """`ymin xmin ymax xmax class …` of boxes in [0, 1]: each coordinate is round(c · (bins - 1))."""
    pieces = []
    for box, label in zip(boxes, labels, strict=True):
        pieces += [str(int(np.clip(np.rint(c * (bins - 1)), 0, bins - 1))) for c in box] + [label]
    return " ".join(pieces)


def parse_boxes(text: str, bins: int = 1000) -> Boxes:
    """Reads generated boxes, tolerating all errors: what is no box is left out and counted.

    The text is cut into pieces, each a run of numbers and the words behind it. A piece is a box where at least one
    word follows four numbers 0 … bins - 1 that are in order (ymin ≤ ymax, xmin ≤ xmax); of more than four numbers,
    the last four are the box's, and those before belong to the class before (`… boeing 747 10 20 30 40 cat`).
    """
    runs = [(number, list(run)) for number, run in itertools.groupby(text.split(), str.isdecimal)]
    if runs and not runs[0][0]:
        runs.insert(0, (True, []))
    pieces = list(itertools.zip_longest((r for n, r in runs if n), (r for n, r in runs if not n), fillvalue=[]))
    boxes: list[list[float]] = []
    labels: list[str] = []
    problems: collections.Counter = collections.Counter()
    before_is_box = False
    for numbers, label in pieces:
        extra, numbers = numbers[:-4], numbers[-4:]
        if extra and before_is_box:
            labels[-1] = " ".join([labels[-1], *extra])
        elif extra:
            problems["surplus_numbers"] += 1
        values = [int(n[:9]) for n in numbers]
        problem = _problem(values, label, bins)
        before_is_box = not problem
        if problem:
            problems[problem] += 1
        else:
            boxes.append([v / (bins - 1) for v in values])
            labels.append(" ".join(label))
    return Boxes(np.asarray(boxes).reshape(-1, 4), tuple(labels), malformed=problems.total(), problems=dict(problems))


def _problem(values: Sequence[int], label: Sequence[str], bins: int) -> str:
    """One of PROBLEMS; "" where up to four numbers and the words behind them are a box."""
    if not values:
        return "no_coordinates"
    if not label:
        return "cut_off"
    if len(values) < 4:
        return "too_few_coordinates"
    if max(values) >= bins:
        return "out_of_range"
    if values[0] > values[2] or values[1] > values[3]:
        return "reversed"
    return ""


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """float[n, m]: intersection over union of boxes a[n, 4] and b[m, 4]; 0 where both are empty."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = (np.clip(x[:, 2:] - x[:, :2], 0, None).prod(-1) for x in (a, b))
    union = area_a[:, None] + area_b[None] - intersection
    return np.where(union > 0, intersection / np.where(union > 0, union, 1), 0.0)


def _matches(overlap: np.ndarray, threshold: float) -> np.ndarray:
    """bool[n]: detections, best first, each take the free true box that they overlap most (the last of equals)."""
    hit = np.zeros(len(overlap), bool)
    free = np.ones(overlap.shape[1], bool)
    for i, row in enumerate(overlap):
        row = np.where(free, row, -1.0)
        if row.size and row.max() >= threshold - _ROUNDING:
            hit[i] = True
            free[len(row) - 1 - int(row[::-1].argmax())] = False
    return hit


def _class_precision(images: Iterable[tuple], thresholds: Sequence[float], max_detections: int) -> list[float]:
    """COCO's interpolated average precision of one class at each threshold; images: (true boxes, boxes, scores)."""
    overlaps, scores, total = [], [np.zeros(0)], 0
    for truth, boxes, score in images:
        total += len(truth)
        if len(boxes):
            order = np.argsort(-score, kind="stable")[:max_detections]
            overlaps.append(iou(boxes[order], truth))
            scores.append(score[order])
    if not overlaps:
        return [0.0] * len(thresholds)
    ranked = np.argsort(-np.concatenate(scores), kind="stable")
    averages = []
    for threshold in thresholds:
        hit = np.concatenate([_matches(overlap, threshold) for overlap in overlaps])[ranked]
        recall = hit.cumsum() / total
        precision = hit.cumsum() / np.arange(1, len(hit) + 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(recall, _RECALLS, side="left")
        averages.append(np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0.0).mean())
    return averages


def average_precision(
    targets: Sequence[Boxes],
    predictions: Sequence[Boxes],
    thresholds: Sequence[float] = COCO_THRESHOLDS,
    max_detections: int = 100,
) -> np.ndarray:
    """float64[len(thresholds)]: average precision at each IoU threshold, averaged over the classes with a true box.

    As pycocotools' COCOeval: all areas, the best `max_detections` of a class and image. Boxes without scores count as
    equally sure and are ranked by image, then in the order given, which is what pycocotools makes of equal scores. NaN
    where there is no true box at all.
    """
    if len(targets) != len(predictions):
        raise ValueError(f"Got {len(targets)} targets and {len(predictions)} predictions; give one each an image.")
    true_labels = [np.array([normalise(label) for label in t.labels], object) for t in targets]
    found_labels = [np.array([normalise(label) for label in p.labels], object) for p in predictions]
    scores = [np.ones(len(p.labels)) if p.scores is None else np.asarray(p.scores, np.float64) for p in predictions]
    classes = sorted({label for labels in true_labels for label in labels})
    if not classes:
        return np.full(len(thresholds), np.nan)
    table = []
    for name in classes:
        images = (
            (t.boxes[true == name], p.boxes[found == name], score[found == name])
            for t, true, p, found, score in zip(targets, true_labels, predictions, found_labels, scores, strict=True)
        )
        table.append(_class_precision(images, thresholds, max_detections))
    return np.mean(table, axis=0)


def detection(targets: Sequence[Boxes], predictions: Sequence[Boxes]) -> dict[str, float]:
    """{"ap50", "ap" (mean over IoU 0.5 to 0.95), "malformed"}; "malformed" is the share of pieces that were no box."""
    precision = average_precision(targets, predictions)
    malformed = sum(p.malformed for p in predictions)
    pieces = malformed + sum(len(p.labels) for p in predictions)
    return {
        "ap50": float(precision[0]),
        "ap": float(precision.mean()),
        "malformed": malformed / max(pieces, 1),
    }


def box_problems(targets: Sequence[Boxes], predictions: Sequence[Boxes]) -> dict[str, float]:
    """{"malformed_<kind>" for each of PROBLEMS}: share of the generated pieces that were no box for that reason."""
    del targets
    found: collections.Counter = collections.Counter()
    for prediction in predictions:
        found.update(prediction.problems)
    pieces = sum(p.malformed + len(p.labels) for p in predictions)
    return {f"malformed_{kind}": found[kind] / max(pieces, 1) for kind in PROBLEMS}
