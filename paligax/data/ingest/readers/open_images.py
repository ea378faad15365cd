"""Open Images: boxes, labels that people verified, and those that they verified as absent."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from paligax.data.ingest.reader import Problem, Reader, Record, Unit, option
from paligax.data.ingest.readers import boxes, grouping, large_files, pictures
from paligax.data.ingest.readers.grouping import Keys, Problems, Rows

GROUPS = ("label", "box")
_BOX_COLUMNS = ["ImageID", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", "IsGroupOf"]


@dataclasses.dataclass(frozen=True)
class OpenImages(Reader):
    """The published tables; each image that one of them names becomes a record with all that they say of it.

    ``boxes``: ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,
    IsInside (and XClick… in V6), in [0, 1]. ``labels``: ImageID,Source,LabelName,Confidence, where Confidence is 0 for
    a class that people verified as absent, 1 for one that they verified as present, between for a machine's guess.
    A label of a class that has a box in the image adds nothing and is left out; absent classes become objects with
    verified_absent. Objects stand in this order: boxes, labels without box, absent ones.

    Memory while reading: 37 bytes a row, about 250 an image: 1 GB for the boxes of train.

    Attributes:
      images: folder of <ImageID>.jpg, or of the folders train, validation and test, or train_0 … train_f.
      classes: class-descriptions-boxable.csv or class-descriptions.csv: "/m/01g317,Person", no header.
      boxes: a split's -annotations-bbox.csv; "": none.
      labels: a split's -annotations-human-imagelabels(-boxable).csv or -machine-imagelabels.csv; "": none.
      rotations: the split's -images-with-rotation.csv (column Rotation): images that lie on their side (2.6 %) are
        turned upright, with their boxes, and compressed anew. "": images stay as they are, which is how their boxes
        were drawn.
      groups: what becomes of a box around five or more that touch (IsGroupOf). "label": its class is in the image,
        without a box, so that nobody learns the box as one object's, nor the class as absent; "box": a box like others.
      least_confidence: a label of less confidence, and not 0, is left out (and counted).
      source: written into the records.
      unit_size: images a unit.
    """

    images: str
    classes: str
    boxes: str = ""
    labels: str = ""
    rotations: str = ""
    groups: str = option("label", choices=GROUPS)
    least_confidence: float = option(0.5, least=0, most=1)
    source: str = "open_images"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        if not self.boxes and not self.labels:
            raise ValueError("Open Images needs boxes or labels (or both): the files' names; got neither.")
        large_files.require(self.classes, self.boxes, self.labels, self.rotations)
        keys, classes, problems = Keys(), Keys(), Problems()
        names = _class_names(self.classes, classes, problems)
        drawn, labelled = boxes.object_rows(), Rows("if")
        if self.boxes:
            self._boxes(keys, classes, drawn, problems)
        if self.labels:
            self._labels(keys, classes, labelled, problems)
        names += [""] * (len(classes) - len(names))
        boxes.note_nameless(problems, drawn, classes, names, self.boxes)
        boxes.note_nameless(problems, labelled, classes, names, self.labels)
        turns = pictures.read_rotations(self.rotations, problems)
        drawn_on, labels_of = drawn.deal(len(keys)), labelled.deal(len(keys))

        def entries() -> Iterator[dict[str, Any]]:
            for i, key in enumerate(keys.keys):
                merged = _merged(drawn_on.columns(i), labels_of.columns(i), f"{self.labels}: image {key}", problems)
                packed = boxes.pack_columns(merged, names)
                yield {"id": key, "turn": turns.get(key, 0), **packed}

        yield from grouping.units(entries(), problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from grouping.problems_of(unit)
        for entry in unit["images"]:
            file = f"{entry['id']}.jpg"
            folders = (f"train_{entry['id'][0]}", "train", "validation", "test")
            image = pictures.find_image(self.images, [file, *(f"{folder}/{file}" for folder in folders)])
            if not isinstance(image, Problem):
                image = pictures.upright(image, entry["turn"], f"{self.images}/{file}")
            if isinstance(image, Problem):
                yield image
                continue
            rows = boxes.unpack(entry)
            rows[:, :4] = boxes.turned(rows[:, :4], entry["turn"])
            objects = boxes.group(entry["labels"], rows)
            yield {"id": entry["id"], "image": image, "objects": objects, "source": self.source}

    def _boxes(self, keys: Keys, classes: Keys, rows: Rows, problems: Problems) -> None:
        for line, row in large_files.csv_rows(self.boxes, _BOX_COLUMNS):
            if isinstance(row, Problem):
                problems.note(row)
                continue
            image, name = keys.number(row[0]), classes.number(row[1])
            if image < 0 or name < 0:
                problems.add("box without image or class", f"{self.boxes}:{line}")
                continue
            try:
                confidence, xmin, xmax, ymin, ymax = map(float, row[2:7])
                box = (ymin, xmin, ymax, xmax)
                box = box if all(map(math.isfinite, box)) else boxes.BAD_BOX
            except ValueError:
                confidence, box = float("nan"), boxes.BAD_BOX
            if row[7] == "1" and self.groups == "label":
                box = boxes.NO_BOX
            rows.add(image, name, *box, confidence, 0)

    def _labels(self, keys: Keys, classes: Keys, rows: Rows, problems: Problems) -> None:
        for line, row in large_files.csv_rows(self.labels, ["ImageID", "LabelName", "Confidence"]):
            if isinstance(row, Problem):
                problems.note(row)
                continue
            image, name = keys.number(row[0]), classes.number(row[1])
            try:
                confidence = float(row[2])
            except ValueError:
                confidence = -1.0
            if image < 0 or name < 0 or not 0 <= confidence <= 1:
                problems.add("label without image, class or confidence", f"{self.labels}:{line}")
            elif 0 < confidence < self.least_confidence:
                problems.add("label below the least confidence", f"{self.labels}:{line}")
            else:
                rows.add(image, name, confidence)


def _class_names(path: str, classes: Keys, problems: Problems) -> list[str]:
    """The names of the classes, by their numbers in ``classes``, which this fills."""
    names: list[str] = []
    for line, row in large_files.table(path):
        if isinstance(row, Problem):
            problems.note(row)
        elif row[0] == "LabelName":  # V7 has a header
            continue
        elif len(row) < 2 or classes.number(row[0]) != len(names):
            problems.add("class without name or named twice", f"{path}:{line}")
        else:
            names.append(row[1])
    if not names:
        raise ValueError(f"{path!r} names no classes: expected lines like '/m/01g317,Person'.")
    return names


def _merged(drawn: list[np.ndarray], labels: list[np.ndarray], where: str, problems: Problems) -> list[np.ndarray]:
    """Columns as boxes.object_rows: the boxes, then each class that is present without one, then those absent.

    Several people may have verified a class: it is named once, with the first one's confidence.
    """
    if not len(labels[0]):
        return drawn
    boxed, here, gone = set(drawn[0].tolist()), {}, {}
    pairs = list(zip(*(column.tolist() for column in labels), strict=True))
    for name, confidence in pairs:
        if confidence and name not in boxed:
            here.setdefault(name, confidence)
    for name, confidence in pairs:
        if confidence:
            continue
        if name in boxed or name in here:
            problems.add("class both present and absent", where)
        else:
            gone[name] = 1.0  # that it is absent is certain
    names, nowhere = [*here, *gone], np.full(len(here) + len(gone), np.nan, np.float32)
    is_absent = [0] * len(here) + [1] * len(gone)
    added = [names, *[nowhere] * 4, [*here.values(), *gone.values()], is_absent]
    return [np.concatenate([one, np.asarray(other, one.dtype)]) for one, other in zip(drawn, added, strict=True)]
