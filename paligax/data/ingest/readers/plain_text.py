"""Text alone, for span corruption: files of text, or JSON lines with a text each (C4, mC4), cut into segments."""

import dataclasses
import json
import os
from collections.abc import Iterator

from paligax.data.ingest import files
from paligax.data.ingest.reader import UNKNOWN, Problem, Reader, Record, option
from paligax.data.ingest.readers import fields, lines, segments, streams

_SUFFIXES = {
    "line": (".txt", ".txt.gz"),
    "file": (".txt", ".md"),
    "json": (".jsonl", ".json", ".jsonl.gz", ".json.gz"),
}
MAX_PIECE = 1 << 20  # bytes of a line that are cut into segments at once


@dataclasses.dataclass(frozen=True)
class PlainText(Reader):
    """One record a segment: id ("en/c4.json:17:0": file, line and segment), text, text_lang.

    Attributes:
      path: file, pattern or folder; packed with gzip too. A packed file is one unit.
      lang: language of all texts; "" if it shall be found later.
      documents: "line", a document a line; "file", a document a file; "json", JSON lines as C4 and mC4 have them.
      text: name of the text in JSON lines.
      language: name of the text's language in JSON lines; "": there is none.
      words: how long a segment is, about. Two characters of a script without spaces count as a word.
      unit_size: documents a unit.
      source: what the records' ``source`` says.
    """

    path: str
    lang: str = ""
    documents: str = option("line", choices=tuple(_SUFFIXES))
    text: str = "text"
    language: str = ""
    words: int = 96
    unit_size: int = 5000
    source: str = "text"

    def units(self) -> Iterator[list]:
        """[file, first byte, one behind the last, first line number], or a list of files."""
        found = files.matching(self.path, _SUFFIXES[self.documents])
        if self.documents == "line" and found[0].lower().endswith(_SUFFIXES["json"]):
            raise ValueError(f"{found[0]!r} is named like JSON lines: give documents=json, or its braces become text.")
        if self.documents == "file":
            yield from files.pieces(found, self.unit_size)
        else:
            for file in found:
                for start, end, number in lines.ranges(file, self.unit_size):
                    yield [file, start, end, number]

    def read(self, unit: list) -> Iterator[Record | Problem]:
        if self.documents == "file":
            for file in unit:
                yield from self._file(file)
            return
        name, previous, count = _name(unit[0]), 0, 0
        limit = MAX_PIECE if self.documents == "line" else lines.MAX_LINE
        for line in lines.read(*unit, limit=limit):
            if isinstance(line, Problem):
                yield line
                continue
            where = f"{unit[0]} line {line.number}"
            if line.number != previous:
                previous, count = line.number, 0
            found = self._in_line(line.data) if self.documents == "line" else self._in_json(line)
            if isinstance(found, str):
                if not (line.part and self.documents == "json"):  # a long line's first piece has told it
                    yield Problem(found, where)
                continue
            text, lang = found
            for segment in segments.cut(text, self.words):
                yield self._record(segment, lang, f"{name}:{line.number}:{count}")
                count += 1

    def _file(self, file: str) -> Iterator[Record | Problem]:
        name, count = _name(file), 0
        for piece in _pieces(file):
            if isinstance(piece, Problem):
                yield piece
                continue
            found = self._in_line(piece)
            if isinstance(found, str):
                yield Problem(found, file)
                continue
            for segment in segments.cut(found[0], self.words):
                yield self._record(segment, found[1], f"{name}:{count}")
                count += 1

    def _in_line(self, data: bytes) -> tuple[str, str] | str:
        """(text, language), or why there is none."""
        try:
            return data.decode(), self.lang
        except UnicodeDecodeError:
            return "invalid UTF-8"

    def _in_json(self, line: lines.Line) -> tuple[str, str] | str:
        if not line.whole:
            return "line too long"
        if not line.data.strip():
            return "", ""
        try:
            document = json.loads(line.data)
            text = fields.find(document, self.text)
        except KeyError:
            return "no text"
        except (ValueError, RecursionError):
            return "line is not JSON"
        if not isinstance(text, str):
            return "no text"
        if not self.language:
            return text, self.lang
        try:
            lang = fields.find(document, self.language)
        except KeyError:
            lang = ""
        return text, (lang if isinstance(lang, str) and lang else self.lang)

    def _record(self, segment: str, lang: str, record_id: str) -> Record:
        return {"id": record_id, "text": segment, "text_lang": lang, "source": self.source}


def _name(file: str) -> str:
    """The last two parts of a path: languages are often folders whose files have the same names."""
    return "/".join(file.replace(os.sep, "/").split("/")[-2:])


def _pieces(file: str) -> Iterator[bytes | Problem]:
    """A file of any size, cut at blanks into pieces of a megabyte or two."""
    pending = b""
    with streams.unpacked(file) as stream:
        try:
            for data in streams.chunks(stream):
                if pending:
                    piece, pending = lines.cut(pending, len(pending) - 1)
                    yield piece
                else:
                    data = data.removeprefix(b"\xef\xbb\xbf")
                pending += data
        except streams.DAMAGED as error:
            yield Problem("damaged or cut file", f"{file}: {error}", UNKNOWN)
    if pending:
        yield pending
