"""Questions and answers that were generated from captions: VQ²A (Changpinyo et al. 2022)."""

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

from paligax.data.ingest.reader import Problem, Reader, Record, Unit, option
from paligax.data.ingest.readers import grouping, large_files, pictures, vqa
from paligax.data.ingest.readers.grouping import Keys, Problems, Rows

# What a field is called in files of this kind.
_IMAGE = ("image_id", "image", "image_name", "key", "image_url", "url")
_ANSWERS = ("answers", "answer")
_LANG = ("lang", "language", "question_lang")


@dataclasses.dataclass(frozen=True)
class Vq2a(Reader):
    """Triplets of image, question and answer, in one of these forms:

      .json   as published: {"dataset", "split", "annotations": [{"image_id", "caption", "qa_pairs": [{"question_id",
              "raw_question", "question", "answers": [10 texts]}]}]}; or a list of such entries
      .jsonl  the same entries, one a line
      .tsv    a table whose first line names its columns

    The training sets of the paper weren't published, so an entry may also be a single triplet ({"image_id", "question",
    "answer"}), a pair may be [question, answer], the image may be called image, image_name, key, image_url or url, and
    a language may stand in lang or language, of the entry or of the pair. Captions are left out: they are the source of
    the questions. Answers are English, whatever the language of the question.

    Memory while reading: 32 bytes and the texts a pair, about 150 an image.

    Attributes:
      path: the file; .gz and .bz2 are unpacked.
      images: folder of the images.
      image_name: how an image's file is named: {id} as the file gives it, {number} the id as a number
        ("COCO_val2014_{number:012d}.jpg"), {md5} and {sha256} of the id ("{md5}.jpg" where the id is a URL).
        "": <id>.jpg, the id itself where it has a suffix, and COCO's names where it is a number.
      answers: "mode" or "all" of several answers; see paligax.data.ingest.readers.vqa.
      lang: language of questions for which the file doesn't say.
      source: written into the records.
      unit_size: images a unit.
    """

    path: str
    images: str
    image_name: str = option("", check=lambda pattern: _named(pattern, "1"))
    answers: str = option("mode", choices=vqa.ANSWERS)
    lang: str = "en"
    source: str = "vq2a"
    unit_size: int = 1000

    def units(self) -> Iterator[Unit]:
        keys, problems, rows = Keys(), Problems(), Rows("ttt")
        for where, entry in self._entries(problems):
            image = keys.number(_first(entry, _IMAGE))
            if image < 0:
                problems.add("question without image or text", where)
                continue
            for pair in _pairs(entry):
                self._add(image, pair, entry, rows, problems, where)
        dealt = rows.deal(len(keys))
        entries = ([key, dealt.rows(i)] for i, key in enumerate(keys.keys))
        yield from grouping.units(entries, problems, self.unit_size)

    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        yield from grouping.problems_of(unit)
        for key, qa in unit["images"]:
            names = _named(self.image_name, key)
            if not names:
                yield Problem("image id is no number", f"{self.path}: image {key}")
                continue
            image = pictures.find_image(self.images, names)
            if isinstance(image, Problem):
                yield image
                continue
            group = [{"lang": lang, "question": question, "answer": answer} for question, answer, lang in qa]
            yield {"id": key, "image": image, "qa": group, "source": self.source}

    def _entries(self, problems: Problems) -> Iterator[tuple[str, dict]]:
        """(where, entry) of a file of any form."""
        path = self.path.removesuffix(".gz").removesuffix(".bz2")
        if path.endswith(".tsv"):
            found = _table(self.path)
        elif path.endswith(".jsonl"):
            found = large_files.json_lines(self.path)
        elif path.endswith(".json"):
            items = large_files.json_items(self.path)
            found = ((place, value) for name, place, value in items if name in ("", "annotations"))
        else:
            raise ValueError(f"{self.path!r}: expected a name in .json, .jsonl or .tsv (also .gz, .bz2).")
        count = 0
        for place, value in found:
            count += 1
            if isinstance(value, Problem):
                problems.note(value)
            elif isinstance(value, dict):
                yield f"{self.path}: {place}", value
            else:
                problems.add("entry is no object", f"{self.path}: {place}")
        if not count:
            raise ValueError(f"{self.path!r} has no questions: expected 'annotations', a list, or a table with rows.")

    def _add(self, image: int, pair: Any, entry: dict, rows: Rows, problems: Problems, where: str) -> None:
        if isinstance(pair, list) and len(pair) == 2:
            pair = {"question": pair[0], "answer": pair[1]}
        pair = pair if isinstance(pair, dict) else {}
        question = _first(pair, ("question", "raw_question"))
        if not isinstance(question, str):
            problems.add("question without image or text", where)
            return
        given = vqa.texts_of(_first(pair, _ANSWERS) or [], "answer", problems, where)
        if not given:
            problems.add("question without answers", where)
            return
        lang = _first(pair, _LANG) or _first(entry, _LANG)
        lang = lang if isinstance(lang, str) else self.lang
        for one, answer in vqa.chosen(question, given, self.answers):
            rows.add(image, one, answer, lang)


def _first(entry: dict, names: tuple[str, ...]) -> Any:
    """The first of the fields that is there; None where none is."""
    return next((entry[name] for name in names if entry.get(name) not in (None, "")), None)


def _pairs(entry: dict) -> list[Any]:
    pairs = entry.get("qa_pairs", [entry])
    return pairs if isinstance(pairs, list) else [pairs]


def _table(path: str) -> Iterator[tuple[int, dict | Problem]]:
    header: list[str] = []
    for line, row in large_files.table(path, tabs=True):
        if isinstance(row, Problem):
            yield line, row
        elif not header:
            header = row
            if "question" not in header or not set(header) & set(_IMAGE):
                raise ValueError(
                    f"{path!r}: its first line must name the columns question, answer and {' or '.join(_IMAGE)}; got "
                    f"{', '.join(header)[:500]}."
                )
        elif len(row) == len(header):
            yield line, dict(zip(header, row, strict=True))
        else:
            yield line, Problem("table row of another length", f"{path}:{line}")


def _named(pattern: str, key: str) -> list[str]:
    """The names that the image's file may have; [] where the pattern wants a number that the id isn't.

    Raises ValueError for a pattern that isn't one.
    """
    number = int(key) if key.isdecimal() and len(key) <= 18 else None
    if not pattern:
        return [key, f"{key}.jpg"] + (pictures.coco_names(number) if number is not None else [])
    if number is None and "{number" in pattern:
        return []
    digests = {name: hashlib.new(name, key.encode("utf-8", "replace")).hexdigest() for name in ("md5", "sha256")}
    try:
        return [pattern.format(id=key, number=number, **digests)]
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ValueError(
            f"image_name={pattern!r}: expected a name with {{id}}, {{number:012d}}, {{md5}} or {{sha256}} in it."
        ) from error
