"""A folder of pictures for each class, as ImageNet lies on disk."""

import dataclasses
import os
from collections.abc import Iterator

from paligax.data.ingest import files
from paligax.data.ingest.reader import RECORD, Problem, Reader, Record, Unit
from paligax.data.ingest.readers import grouping, large_files
from paligax.data.ingest.readers.grouping import Problems
from paligax.data.runtime import tf

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclasses.dataclass(frozen=True)
class ImageFolders(Reader):
    """train/n01440764/n01440764_10026.JPEG: the folder's name is the class, the record's one label.

    ImageNet's validation pictures, where they lie all in one folder (ILSVRC2012_val_00000001.JPEG), have their classes
    in LOC_val_solution.csv: ImageId,PredictionString, of which the first word is the class.

    Attributes:
      path: the folder of the classes' folders, or with ``solution`` of the pictures.
      solution: that table; "": the folders say the classes.
      source: written into the records.
      unit_size: images a unit.
    """

    path: str
    solution: str = ""
    source: str = "imagenet"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        problems = Problems()
        named = self._by_table(problems) if self.solution else self._by_folder(problems)
        yield from grouping.units(named, problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from grouping.problems_of(unit)
        for name, label in unit["images"]:
            image = files.image_of(self.path, name)
            if isinstance(image, Problem):
                yield image
            else:
                yield {"id": name, "image": image, "labels": [label], "source": self.source}

    def _by_folder(self, problems: Problems) -> Iterator[list[str]]:
        """[file below the path, class]"""
        if not tf.io.gfile.isdir(self.path):
            raise FileNotFoundError(f"No folder {self.path!r}: expected one that holds a folder for each class.")
        names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(self.path))
        folders = [name for name in names if tf.io.gfile.isdir(os.path.join(self.path, name))]
        if not folders:
            raise ValueError(
                f"{self.path!r} holds no folders: expected one for each class. If all pictures lie in it, say which "
                "table has their classes (solution=LOC_val_solution.csv)."
            )
        for folder in folders:
            for name in sorted(tf.io.gfile.listdir(os.path.join(self.path, folder))):
                if name.lower().endswith(_SUFFIXES):
                    yield [f"{folder}/{name}", folder]
                else:
                    problems.add("not an image file", f"{self.path}/{folder}/{name[:100]}", lost=RECORD)

    def _by_table(self, problems: Problems) -> Iterator[list[str]]:
        seen = set()
        for number, row in large_files.csv_rows(self.solution, ["ImageId", "PredictionString"]):
            if isinstance(row, Problem):
                problems.note(row, RECORD)
                continue
            name, label = row[0], row[1].split(" ")[0]
            if not name or not label:
                problems.add("row without image or class", f"{self.solution}:{number}", lost=RECORD)
            elif name in seen:
                problems.add("image listed twice", f"{self.solution}:{number}", lost=RECORD)
            else:
                seen.add(name)
                yield [name if name.lower().endswith(_SUFFIXES) else f"{name}.JPEG", label]
