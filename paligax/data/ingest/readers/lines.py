"""Lines of text files of any size: which part of a file is a unit's, and its lines, none longer than a limit."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from paligax.data.ingest.reader import UNKNOWN, Problem
from paligax.data.ingest.readers import streams

MAX_LINE = 16 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line, or a piece of one that is longer than the limit.

    Attributes:
      number: from 1 in its file.
      part: 0, or the how-manyth piece after the first.
      whole: False for each piece of a line that is longer than the limit.
      data: without the line end.
    """

    number: int
    part: int
    whole: bool
    data: bytes


def ranges(path: str, size: int) -> Iterator[tuple[int, int | None, int]]:
    """Cuts a file into ranges of ``size`` lines: (first byte, byte behind the last, number of the first line).

    A packed file is one range, (0, None, 1): it can only be read from its beginning. An empty file has none.
    """
    if streams.is_packed(path):
        yield 0, None, 1
        return
    with streams.open_stream(path) as stream:
        start, first, position, seen = 0, 1, 0, 0
        while chunk := stream.read(streams.BUFFER):
            ends = position + 1 + np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n"))
            for k in range(size - seen % size - 1, len(ends), size):
                yield start, int(ends[k]), first
                start, first = int(ends[k]), first + size
            position, seen = position + len(chunk), seen + len(ends)
        if start < position:
            yield start, position, first


def read(
    path: str, start: int = 0, end: int | None = None, number: int = 1, limit: int = MAX_LINE
) -> Iterator[Line | Problem]:
    """The lines of one range of ``ranges``; a Problem ends them where a packed file is cut or damaged.

    Longer lines come in pieces of at most ``limit`` bytes, cut at spaces where there are some, else between characters.
    Line ends are LF or CR LF; a byte order mark is left out.
    """
    rest, part = b"", 0
    with streams.unpacked(path) as stream:
        if start:
            stream.seek(start)
        try:
            for chunk in streams.chunks(stream, None if end is None else end - start):
                if start == 0 and number == 1 and part == 0 and not rest:
                    chunk = chunk.removeprefix(_BYTE_ORDER_MARK)
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield from _line(number, part, line, limit)
                    number, part = number + 1, 0
                while len(rest) > limit:
                    piece, rest = cut(rest, limit)
                    yield Line(number, part, False, piece)
                    part += 1
        except streams.DAMAGED as error:
            yield Problem("damaged or cut file", f"{path} line {number}: {error}", UNKNOWN)
            return
    if rest or part:
        yield from _line(number, part, rest, limit)


def _line(number: int, part: int, line: bytes, limit: int) -> Iterator[Line]:
    while len(line) > limit:
        piece, line = cut(line, limit)
        yield Line(number, part, False, piece)
        part += 1
    yield Line(number, part, part == 0, line.removesuffix(b"\r"))


def cut(data: bytes, limit: int) -> tuple[bytes, bytes]:
    """Cuts UTF-8 text that is longer than ``limit``, behind white space if there is some, never inside a character."""
    space = max(data.rfind(white, limit // 2, limit) for white in (b" ", b"\n", b"\t")) + 1
    end = space or limit
    while not space and end > limit - 3 and data[end] & 0xC0 == 0x80:
        end -= 1
    return data[:end], data[end:]
