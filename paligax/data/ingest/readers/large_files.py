"""Annotation files that are too large to hold: JSON value by value, JSON lines and CSV line by line.

Local or on any store that TensorFlow knows; gzip and bzip2 are unpacked on the way. A file that cannot be read to its
end raises ValueError: what was cut short in transit shall not become a data set.
"""

import bz2
import codecs
import csv
import difflib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from paligax.data.ingest.reader import Problem
from paligax.data.ingest.readers import streams
from paligax.data.runtime import tf

BLOCK_BYTES = 1 << 20
MAX_VALUE = 64 << 20  # characters of one value: an image with all its annotations
MAX_LINE = 16 << 20  # bytes
_BLANKS = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def require(*paths: str) -> None:
    """Raises FileNotFoundError for the first that isn't there ("" is none), before hours are spent on another."""
    for path in paths:
        if path and not tf.io.gfile.exists(path):
            raise FileNotFoundError(f"No file {path!r}.")


def blocks(path: str) -> Iterator[bytes]:
    """A file's bytes, unpacked, at most BLOCK_BYTES at a time. Raises FileNotFoundError, and ValueError where cut."""
    with streams.unpacked(path) as stream:
        is_bzip2 = False
        try:
            is_bzip2 = stream.peek(3)[:3] == b"BZh"
            unpacked: Any = bz2.BZ2File(stream) if is_bzip2 else stream
            while block := unpacked.read(BLOCK_BYTES):
                yield block
        except streams.DAMAGED as error:
            raise ValueError(f"{path!r} is cut short or damaged: {error}") from error
        except OSError as error:
            if is_bzip2 and error.errno is None:  # its word for damage; else it is the disk
                raise ValueError(f"{path!r} is damaged: {error}") from error
            raise


# ------------------------------------------------------------------------------------------------------------- JSON


def json_items(path: str) -> Iterator[tuple[str, int | str, Any]]:
    """The values of depth two in a JSON file, of which one at a time is held:

        {"images": [a, b], "info": {"year": 2014}, "version": 1}
        → ("images", 0, a), ("images", 1, b), ("info", "year", 2014), ("version", "", 1)
        [a, b] → ("", 0, a), ("", 1, b)

    Raises FileNotFoundError, and ValueError where the file is no JSON, is cut short, or a value has more than
    MAX_VALUE characters.
    """
    text = _Text(path)
    for name in text.places() if text.peek() == "{" else [""]:
        if text.peek() in ("[", "{"):
            for place in text.places():
                yield str(name), place, text.value()
        else:
            yield str(name), "", text.value()
    if text.peek():
        raise text.error("there is something behind the end")


class _Text:
    """The text of a JSON file, of which a window is held."""

    def __init__(self, path: str):
        self._path = path
        self._blocks = blocks(path)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._window, self._at, self._before = "", 0, 0

    def error(self, why: str) -> ValueError:
        return ValueError(f"{self._path!r} is not a whole JSON file: at character {self._before + self._at:,}, {why}.")

    def peek(self) -> str:
        """The next character that is no blank; "" at the end."""
        while True:
            if self._at < len(self._window):
                found = self._window[self._at]
                if found > " ":  # the usual case; the other characters below are no JSON and told by who takes them
                    return found
                self._at = _BLANKS.match(self._window, self._at).end()
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._more():
                return ""

    def places(self) -> Iterator[int | str]:
        """The numbers or names of what the list or object that begins here holds.

        The value of each must be read before the next is asked for.
        """
        opening = self._take("[{")
        closing, place = "]" if opening == "[" else "}", 0
        if self.peek() == closing:
            self._take(closing)
            return
        while True:
            if opening == "[":
                yield place
                place += 1
            else:
                name = self.value()
                if not isinstance(name, str):
                    raise self.error("a name was expected")
                self._take(":")
                yield name
            if self._take("," + closing) == closing:
                return

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._window, self._at)
                if end < len(self._window) and self._window[end] not in ".eE":  # else a number may go on
                    self._at = end
                    return value
            except json.JSONDecodeError as problem:
                # More of the file cannot mend what lies well before the window's end, but for a string's beginning.
                if problem.pos + 16 < len(self._window) and not problem.msg.startswith("Unterminated string"):
                    raise self.error(problem.msg) from problem
            except RecursionError as problem:
                raise self.error("it is nested too deep") from problem
            except ValueError as problem:  # a number of thousands of digits
                raise self.error(str(problem)) from problem
            held = len(self._window) - self._at
            if held > MAX_VALUE:
                raise self.error(f"a value has more than {MAX_VALUE:,} characters")
            if not self._more(held):
                raise self.error("it ends")

    def _take(self, wanted: str) -> str:
        found = self.peek()
        if not found or found not in wanted:
            raise self.error(f"{' or '.join(wanted)} was expected, and {repr(found) if found else 'the end'} found")
        self._at += 1
        return found

    def _more(self, least: int = 1) -> bool:
        """Reads on, by at least so many characters (a long value is tried again each time); False at the end."""
        pieces, found, ended = [], 0, False
        while found < least and not ended:
            block = next(self._blocks, b"")
            ended = not block
            try:
                pieces.append(self._decoder.decode(block, final=ended))
            except UnicodeDecodeError as problem:
                raise self.error("what follows is not UTF-8") from problem
            found += len(pieces[-1])
        self._window = self._window[self._at :] + "".join(pieces)
        self._before, self._at = self._before + self._at, 0
        return found > 0


def json_lines(path: str) -> Iterator[tuple[int, Any | Problem]]:
    """(line number from 1, value) of a file with one JSON value a line; blank lines are passed over.

    A line that is none or is too long gives a Problem instead.
    """
    for number, line in lines(path):
        if line is None:
            yield number, Problem("line too long", f"{path}:{number}")
        elif line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
                yield number, Problem("line is not JSON", f"{path}:{number}")


# ------------------------------------------------------------------------------------------------------------ lines


def lines(path: str, limit: int = MAX_LINE) -> Iterator[tuple[int, bytes | None]]:
    """(line number from 1, line without its end); None for a line of more than ``limit`` bytes."""
    rest, number, too_long = b"", 0, False
    for block in blocks(path):
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            number += 1
            yield number, None if too_long or len(line) > limit else line.removesuffix(b"\r")
            too_long = False
        if len(rest) > limit:
            rest, too_long = b"", True
    if rest or too_long:
        yield number + 1, None if too_long else rest.removesuffix(b"\r")


def csv_rows(path: str, columns: Sequence[str], tabs: bool = False) -> Iterator[tuple[int, list[str] | Problem]]:
    """(line number, values of the named columns) of a table whose first line names its columns.

    Args:
      columns: their names.
      tabs: columns are separated by tabs and nothing is quoted; else commas, and quotes where a value holds one.

    A row that has more or fewer values than the first line gives a Problem, and so does one that cannot be read.

    Raises:
      ValueError: a column isn't there; says the nearest name.
    """
    rows = table(path, tabs)
    header = next((row for _, row in rows), [])
    if isinstance(header, Problem):
        raise ValueError(f"{path!r} is no table: its first line cannot be read.")
    places = [_column(name, header, path) for name in columns]
    for number, row in rows:
        if isinstance(row, Problem):
            yield number, row
        elif len(row) == len(header):
            yield number, [row[place] for place in places]
        else:
            yield number, Problem("table row of another length", f"{path}:{number}")


def table(path: str, tabs: bool = False) -> Iterator[tuple[int, list[str] | Problem]]:
    """(line number, values without blanks at their ends) of each row of a table that isn't empty; see csv_rows."""
    form: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
    rows = csv.reader(_text_lines(path), **form)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield rows.line_num, Problem("unreadable table row", f"{path}:{rows.line_num}")
            continue
        if row:
            yield rows.line_num, [value.strip() for value in row]


def _text_lines(path: str) -> Iterator[str]:
    for number, line in lines(path):
        # What is too long becomes a row with too few values.
        text = "line too long" if line is None else line.decode("utf-8", "replace")
        yield (text.removeprefix("\ufeff") if number == 1 else text) + "\n"


def _column(name: str, header: list[str], path: str) -> int:
    if name not in header:
        near = difflib.get_close_matches(name, header, 1)
        raise ValueError(
            f"{path!r} has no column {name!r}{f'; did you mean {near[0]!r}?' if near else '.'} "
            f"Its first line names: {', '.join(header)[:500] or 'nothing'}."
        )
    return header.index(name)
