"""ST-VQA: questions that the text in a picture answers (Biten et al., arXiv 1905.13648)."""

import dataclasses
import zlib
from collections.abc import Iterator

from paligax.data.ingest.reader import Problem, Reader, Record, Unit, option
from paligax.data.ingest.readers import grouping, large_files, pictures, vqa
from paligax.data.ingest.readers.grouping import Keys, Problems, Rows

PARTS = ("", "train", "validation")
HELD_OUT = 10  # one image in so many is validation's


@dataclasses.dataclass(frozen=True)
class StVqa(Reader):
    """ST-VQA (train_task_3.json): {"data": [{"file_path", "question", "question_id", "answers": [texts]}]}.

    "file_path" names the picture with its folder ("coco-text/COCO_train2014_000000000036.jpg"); files that lack it say
    "dataset" and "file_name". Test rows have no answers.

    There is no published validation set: ``part`` divides the training file by a hash of the file's path, so that all
    questions about a picture lie on one side.

    Attributes:
      path: the annotation file.
      images: folder of the pictures' folders (coco-text, IIIT_STR, …), or of all files.
      answers: "mode" or "all", see paligax.data.ingest.readers.vqa.
      part: "validation" takes a tenth of the pictures, "train" the others, "" all.
      lang: language of the questions.
      source: written into the records.
      unit_size: images a unit.
    """

    path: str
    images: str
    answers: str = option("mode", choices=vqa.ANSWERS)
    part: str = option("", choices=PARTS)
    lang: str = "en"
    source: str = "st_vqa"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        large_files.require(self.path)
        keys, problems, pairs = Keys(), Problems(), Rows("tt")
        names = set()
        for name, place, value in large_files.json_items(self.path):
            names.add(name)
            if name != "data":
                continue
            value, where = value if isinstance(value, dict) else {}, f"{self.path}: data"
            question, file = value.get("question"), _file_path(value)
            image = keys.number(file) if isinstance(question, str) and file else -1
            if image < 0:
                problems.add("question without image or text", where, place)
                continue
            given = value.get("answers")
            texts = None if given is None else vqa.texts_of(given, "answer", problems, f"{where} {place}")
            if texts == []:
                problems.add("question without answers", where, place)
                continue
            for pair in vqa.chosen(question, texts, self.answers):
                pairs.add(image, *pair)
        if "data" not in names:
            raise ValueError(f"{self.path!r} has no questions: expected an object with 'data', got {sorted(names)}.")
        listed = (entry for entry in vqa.entries(keys, pairs, {}) if entry[2] and self._is_wanted(entry[0]))
        yield from grouping.units(listed, problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from vqa.records(unit, self.images, pictures.shorter, self.lang, self.source)

    def _is_wanted(self, key: str) -> bool:
        held_out = zlib.crc32(key.encode("utf-8", "replace")) % HELD_OUT == 0
        return not self.part or held_out == (self.part == "validation")


def _file_path(value: dict) -> str:
    """ "coco-text/x.jpg"; "" where the row names no file."""
    path, folder, name = (value.get(key) for key in ("file_path", "dataset", "file_name"))
    if isinstance(path, str) and path:
        return path
    if not isinstance(name, str):
        return ""
    return f"{folder}/{name}" if isinstance(folder, str) and folder else name
