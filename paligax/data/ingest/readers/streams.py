"""A foreign file as a stream of bytes: local or remote, unpacked where it is gzip, read in bounded steps."""

import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Iterator

from paligax.data.ingest import files

BUFFER = 1 << 20
# What unpacking raises where the file is cut or damaged. Errors of the disk or the network are not among them: those
# pass through, so that whoever runs the reader tries again.
DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)


class _Remote(io.RawIOBase):
    """A TensorFlow file with the methods that Python's readers ask of one."""

    def __init__(self, file):
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def open_stream(path: str) -> io.BufferedReader:
    """The file as it lies, with a megabyte of buffer. Raises FileNotFoundError."""
    file = files.open_file(path)
    return io.BufferedReader(file.detach() if os.path.exists(path) else _Remote(file), BUFFER)


@contextlib.contextmanager
def unpacked(path: str) -> Iterator[io.BufferedIOBase]:
    """The file's bytes, unpacked while they are read where it begins as gzip does, whatever its name.

    Raises FileNotFoundError. Reading may raise what ``DAMAGED`` lists.
    """
    with open_stream(path) as stream:
        if stream.peek(2)[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=stream) as inside:
                yield inside
        else:
            yield stream


def is_packed(path: str) -> bool:
    """Whether the file begins as gzip does: such a file is read from its beginning only."""
    with open_stream(path) as stream:
        return stream.peek(2)[:2] == b"\x1f\x8b"


def chunks(stream: io.BufferedIOBase, left: int | None = None) -> Iterator[bytes]:
    """The next ``left`` bytes (None: all), a megabyte at a time; the last ones before a file's damage too.

    Raises what ``DAMAGED`` lists, behind them.
    """
    held: list[bytes] = []
    size = 0
    try:
        # read1: a longer read that fails takes with it what it has unpacked so far.
        while data := stream.read1(BUFFER if left is None else min(BUFFER, left)):
            held.append(data)
            size += len(data)
            left = None if left is None else left - len(data)
            if size >= BUFFER:
                yield b"".join(held)
                held, size = [], 0
    except DAMAGED:
        if held:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)


def skip(stream: io.BufferedIOBase, size: int) -> bool:
    """Reads ``size`` bytes away, a megabyte at a time; False where the stream ends before."""
    while size:
        data = stream.read(min(size, BUFFER))
        if not data:
            return False
        size -= len(data)
    return True
