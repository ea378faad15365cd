"""Average precision of many resamples of the same images.

Which detections are right is settled within an image, whatever the others are: it is found once. A resample only ranks
the detections of its images together and adds up (as ``metrics.average_precision`` does, whose values these are).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from paligax.metrics import Boxes, normalise
from paligax.metrics.boxes import COCO_THRESHOLDS, iou

_RECALLS = np.linspace(0, 1, 101)
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class _Class:
    """The detections of one class.

    Attributes:
      true: int64[N], number of true boxes of each image.
      starts, counts: int64[N], where each image's detections are in the arrays below, best first, and how many.
      hits: bool[10, M], whether each is right at each of COCO's thresholds.
      scores: float64[M].
    """

    true: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    hits: np.ndarray
    scores: np.ndarray

    def precision(self, sample: np.ndarray) -> np.ndarray | None:
        """float64[10]: average precision of a resample of images, int64[n]; None where no box of it is true."""
        total = self.true[sample].sum()
        if not total:
            return None
        counts = self.counts[sample]
        if not counts.sum():
            return np.zeros(len(COCO_THRESHOLDS))
        index = np.repeat(self.starts[sample] - counts.cumsum() + counts, counts) + np.arange(counts.sum())
        ranked = index[np.argsort(-self.scores[index], kind="stable")]
        found = self.hits[:, ranked].cumsum(axis=1)
        recall, precision = found / total, found / np.arange(1, len(ranked) + 1)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        averages = np.empty(len(COCO_THRESHOLDS))
        for t, (at_recall, at_precision) in enumerate(zip(recall, precision, strict=True)):
            at = np.searchsorted(at_recall, _RECALLS, side="left")
            averages[t] = np.where(at < len(ranked), at_precision[np.minimum(at, len(ranked) - 1)], 0.0).mean()
        return averages


class AveragePrecisions:
    """Average precision at COCO's thresholds, of any resample of some images.

    Args:
      targets, predictions: boxes of each image.
      max_detections: of a class and an image.
    """

    def __init__(self, targets: Sequence[Boxes], predictions: Sequence[Boxes], max_detections: int = 100):
        true = [_by_class(boxes) for boxes in targets]
        found = [_by_class(boxes) for boxes in predictions]
        names = sorted({name for of in true for name in of})
        self._classes = [
            _settle([(t.get(name), f.get(name)) for t, f in zip(true, found, strict=True)], max_detections)
            for name in names
        ]
        self._known: dict[bytes, np.ndarray] = {}

    def of(self, sample: np.ndarray) -> np.ndarray:
        """float64[10] of the images int64[n]; NaN where none has a true box."""
        key = sample.tobytes()
        if key not in self._known:
            values = [value for each in self._classes if (value := each.precision(sample)) is not None]
            self._known[key] = np.mean(values, axis=0) if values else np.full(len(COCO_THRESHOLDS), np.nan)
        return self._known[key]


def _by_class(boxes: Boxes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Class → its boxes float64[n, 4] and their scores float64[n]."""
    scores = np.ones(len(boxes.labels)) if boxes.scores is None else np.asarray(boxes.scores, np.float64)
    labels = np.array([normalise(label) for label in boxes.labels], object)
    return {name: (boxes.boxes[labels == name], scores[labels == name]) for name in set(labels)}


def _settle(images: Sequence[tuple], max_detections: int) -> _Class:
    """One class: (true boxes and scores, or None; found boxes and scores, or None) of each image."""
    true, counts, hits, scores = [], [], [np.zeros((len(COCO_THRESHOLDS), 0), bool)], [np.zeros(0)]
    for truth, found in images:
        boxes = np.zeros((0, 4)) if truth is None else truth[0]
        true.append(len(boxes))
        if found is None:
            counts.append(0)
            continue
        order = np.argsort(-found[1], kind="stable")[:max_detections]
        overlap = iou(found[0][order], boxes)
        counts.append(len(order))
        scores.append(found[1][order])
        hits.append(np.stack([_matches(overlap, threshold) for threshold in COCO_THRESHOLDS]))
    counts = np.asarray(counts)
    return _Class(np.asarray(true), counts.cumsum() - counts, counts, np.concatenate(hits, 1), np.concatenate(scores))


def _matches(overlap: np.ndarray, threshold: float) -> np.ndarray:
    """bool[n]: detections, best first, each take the free true box that they overlap most (the last of equals)."""
    hit, free = np.zeros(len(overlap), bool), np.ones(overlap.shape[1], bool)
    for i, row in enumerate(overlap if overlap.shape[1] else ()):
        row = np.where(free, row, -1.0)
        if row.max() >= threshold - _ROUNDING:
            hit[i] = True
            free[len(row) - 1 - int(row[::-1].argmax())] = False
    return hit
