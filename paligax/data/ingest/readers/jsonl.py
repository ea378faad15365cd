"""JSON lines of the task author's own: one object a line, with the record's fields, under their or other names."""

import dataclasses
import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

from paligax.data import records
from paligax.data.ingest import files
from paligax.data.ingest.reader import PART, Problem, Reader, Record, option
from paligax.data.ingest.readers import fields, large_files, lines

_LOOKED_AT = 20  # objects at a file's beginning, by which mistakes are told


@dataclasses.dataclass(frozen=True)
class JsonLines(Reader):
    """One record an object.

        {"id": "7", "image": "7.jpg", "qa": [{"lang": "en", "question": "what?", "answer": "a cat"}]}
        {"image": "8.jpg", "alt_text/text": ["a cat", "two cats"], "alt_text/lang": ["en", "en"]}
        {"file": "9.jpg", "question": "what?", "answers": ["cat", "a cat"]}          with fields (below)

    Fields are those of paligax.data.records, nested or flat, ``image`` a file name. What an object has beside them is
    left out and counted, once a unit for each name. A file may also hold one JSON list of such objects.

    Attributes:
      path: file, pattern or folder of .jsonl, .json or .ndjson files; .gz too, which is one unit then.
      images: folder of the images; "": the folder of the file.
      fields: other names, "file=image,question=qa/question,answers=qa/answer": theirs and the record's. Theirs may lie
        in objects and lists: "meta.caption=alt_text/text".
      lang: language of texts where the object doesn't say it.
      unit_size: objects a unit.
      source: what the records' ``source`` says, where the object doesn't say it.
    """

    path: str
    images: str = ""
    fields: str = option("", check=fields.parse)
    lang: str = ""
    unit_size: int = 1000
    source: str = "jsonl"

    def units(self) -> Iterator[list]:
        """[file, first byte, one behind the last, first line number], or [file, number of the first, objects]."""
        pairs = fields.parse(self.fields)
        found = files.matching(self.path, (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz"))
        is_list = {file: _is_list(file) for file in found}
        firsts = {file: _first_of_list(file) if is_list[file] else _first(file) for file in found}
        # All of them, so that a mistake in the last file is told, too, before anything is read.
        objects_seen = [self._check(first, pairs, file) for file, first in firsts.items()]
        if any(firsts.values()) and not any(objects_seen):
            raise ValueError(f"{found[0]!r} holds no JSON objects: expected one a line, or a list of them.")
        for file in found:
            if is_list[file]:
                objects = (one for _, _, one in large_files.json_items(file))
                for i, some in enumerate(iter(lambda held=objects: list(itertools.islice(held, self.unit_size)), [])):
                    yield [file, i * self.unit_size, some]
            else:
                for some in lines.ranges(file, self.unit_size):
                    yield [file, *some]

    def read(self, unit: list) -> Iterator[Record | Problem]:
        pairs, unused = fields.parse(self.fields), set()
        if len(unit) == 3:
            file, first, objects = unit
            for i, one in enumerate(objects, first):
                yield from self._record(one, pairs, unused, file, i, f"{file} item {i}")
            return
        file, start, end, number = unit
        for line in lines.read(file, start, end, number):
            if isinstance(line, Problem):
                yield line
                continue
            where = f"{file} line {line.number}"
            if not line.whole:
                if not line.part:
                    yield Problem("line too long", where)
            elif line.data.strip():
                try:
                    one = json.loads(line.data)
                except (ValueError, RecursionError):
                    yield Problem("line is not JSON", where)
                    continue
                yield from self._record(one, pairs, unused, file, line.number, where)

    def _record(
        self, one: Any, pairs: tuple[tuple[str, str], ...], unused: set[str], file: str, number: int, where: str
    ) -> Iterator[Record | Problem]:
        if not isinstance(one, dict):
            yield Problem("not an object", where)
            return
        given = []
        for theirs, ours in pairs:
            try:
                given.append((ours, fields.find(one, theirs)))
            except KeyError:
                continue
        mapped = {
            name for theirs, _ in pairs for name in one if theirs == name or theirs.startswith((f"{name}.", f"{name}/"))
        }
        for name, value in one.items():
            if name in fields.OURS and name not in mapped:
                given.append((name, value))
            elif name not in mapped and name not in unused and len(unused) < 100:
                unused.add(name)
                yield Problem("field not used", f"{where}: {name[:200]}", PART)
        image: bytes | Problem = b""
        for i, (ours, value) in enumerate(given):
            if ours == "image" and value is not None:
                if isinstance(value, str):
                    image = files.image_of(self.images or os.path.dirname(file), value)
                else:
                    image = Problem("image is not a file name", where)
                if isinstance(image, Problem):
                    yield Problem(image.reason, where if image.where == where else f"{where}: {image.where}")
                    return
                given[i] = (ours, image)
        record, reasons = fields.record(given, self.lang)
        yield from (Problem(reason, where, PART) for reason in reasons)
        record.setdefault("id", f"{os.path.basename(file)}:{number}")
        record.setdefault("source", self.source)
        yield record

    def _check(self, objects: list[Any], pairs: tuple[tuple[str, str], ...], file: str) -> bool:
        """Whether there are objects among a file's first. Raises ValueError where they are not as they were said."""
        found = [one for one in objects if isinstance(one, dict)]
        names = list(dict.fromkeys(name for one in found for name in one))
        for theirs, ours in pairs:
            if found and not any(_has(one, theirs) for one in found):
                raise ValueError(f"{file!r}: no {theirs!r} (for {ours!r}){fields.nearest(theirs, names)}")
        if found and not pairs and not any(name in fields.OURS for name in names):
            raise ValueError(
                f"{file!r} holds {', '.join(names)[:500]}; expected fields of a record "
                f"({', '.join([*records.SCALARS, *records.GROUPS])}), or fields=THEIRS=OURS."
            )
        return bool(found)


def _has(one: dict, name: str) -> bool:
    try:
        fields.find(one, name)
    except KeyError:
        return False
    return True


def _is_list(file: str) -> bool:
    """Whether the first character that is no blank is "["."""
    for line in lines.read(file, limit=1 << 20):
        if isinstance(line, Problem) or line.data.strip():
            return not isinstance(line, Problem) and line.data.lstrip().startswith(b"[")
    return False


def _first_of_list(file: str) -> list[Any]:
    return [one for _, _, one in itertools.islice(large_files.json_items(file), _LOOKED_AT)]


def _first(file: str) -> list[Any]:
    """The first lines' objects; None for a line that is none."""
    found: list[Any] = []
    for line in lines.read(file):
        if isinstance(line, Problem) or len(found) == _LOOKED_AT:
            break
        if line.data.strip() and not line.part:
            try:
                found.append(json.loads(line.data))
            except (ValueError, RecursionError):
                found.append(None)
    return found
