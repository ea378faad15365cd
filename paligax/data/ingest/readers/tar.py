"""Members of a tar archive as a stream, bounded in size; links, devices and names that lead elsewhere are refused.

Reads what tar programs write: POSIX ustar (IEEE 1003.1), pax extended headers, GNU long names, numbers in base 256.
Python's own tarfile reads headers of any size into memory (a gigabyte of zeros is a megabyte of gzip), and takes
several times as long for a member.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from paligax.data.ingest.reader import PART, UNKNOWN, Problem
from paligax.data.ingest.readers import streams

DAMAGED = "damaged or cut file"  # the reason of the Problem that ends such an archive
BLOCK = 512
MAX_HEADER = 1 << 20  # a long name, or all pax fields of a member
_ZEROS = bytes(BLOCK)
_FILES = b"07\0"  # regular, contiguous, regular before POSIX
_WITHOUT_DATA = b"123456"  # links, devices, directory, pipe: their size counts nothing
_LONG_NAME, _LONG_LINK, _PAX, _GLOBAL = b"L", b"K", b"xX", b"g"


class Member(NamedTuple):
    """A regular file of the archive; its name is text only, never to be used as a path."""

    name: str
    data: bytes


class _Described(NamedTuple):
    """What headers before a member's own say of it."""

    name: bytes | None = None
    size: int | None = None
    refused: str = ""


def members(stream: BinaryIO, where: str, limit: Callable[[str], int]) -> Iterator[Member | Problem]:
    """The members in their order, and a Problem for each that is refused, too large or unwanted.

    Archives that were appended to one another are read as one. A damaged or cut archive ends with a Problem.

    Args:
      stream: of the archive, unpacked.
      where: its path, for the Problems.
      limit: member name → how many bytes at most are wanted of it; 0: it is not wanted.
    """
    try:
        yield from _members(stream, where, limit)
    except streams.DAMAGED as error:
        yield Problem(DAMAGED, f"{where}: {error}", UNKNOWN)
    except _DamagedError as error:
        yield Problem(DAMAGED, f"{where} byte {stream.tell()}: {error}", UNKNOWN)


class _DamagedError(Exception):
    pass


def _members(stream: BinaryIO, where: str, limit: Callable[[str], int]) -> Iterator[Member | Problem]:
    described, ended = _Described(), False
    while len(header := stream.read(BLOCK)) == BLOCK:
        if header == _ZEROS:
            ended = True
            continue
        ended = False
        name, kind, size = _parse(header)
        if kind == _LONG_NAME or kind in _PAX:
            described = _describe(described, kind, _read(stream, size) if size <= MAX_HEADER else None)
            _skip(stream, (size if size > MAX_HEADER else 0) + -size % BLOCK)
            continue
        if kind in (_LONG_LINK, _GLOBAL):
            _skip(stream, size + -size % BLOCK)
            continue
        more = kind == b"S" and header[482]
        while more:  # the map of a sparse file goes on
            more = _read(stream, BLOCK)[504]
        name = (described.name or name).decode(errors="replace")
        size = 0 if kind in _WITHOUT_DATA else size if described.size is None else described.size
        wanted = limit(name)
        reason = described.refused or _refuse(name, kind) or ("" if wanted else "tar member not used")
        if not reason and size > wanted:
            reason = "tar member too large"
        described = _Described()
        if reason:
            _skip(stream, size + -size % BLOCK)
            yield Problem(reason, f"{where}: {name[:200]}", PART)
        else:
            yield Member(name, _read(stream, size))
            _skip(stream, -size % BLOCK)
    if header or not ended:
        raise _DamagedError("it ends without an end mark")


def _parse(header: bytes) -> tuple[bytes, bytes, int]:
    """A header block → (name, type flag, size)."""
    try:
        unsigned = sum(header) - sum(header[148:156]) + 8 * ord(" ")
        if _number(header[148:156]) != unsigned:
            raise ValueError("checksum")
        size = _number(header[124:136])
    except ValueError as error:
        raise _DamagedError(f"no tar header ({error})") from error
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].split(b"\0", 1)[0]
        name = prefix + b"/" + name if prefix else name
    return name, header[156:157], size


def _number(field: bytes) -> int:
    if field[0] == 0x80:  # base 256, for sizes beyond 8 GiB
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not digits.isdigit() and digits:
        raise ValueError(f"{field!r} is no number")
    return int(digits or b"0", 8)


def _describe(described: _Described, kind: bytes, data: bytes | None) -> _Described:
    if data is None:
        return described._replace(refused="tar header too large")
    if kind == _LONG_NAME:
        return described._replace(name=data.rstrip(b"\0"))
    while data:  # "27 path=a/long/name\n", the number counting the whole line
        length, _, _ = data.partition(b" ")
        if not length.isdigit() or not len(length) < int(length[:10]) <= len(data):
            return described._replace(refused="bad tar header")
        field, data = data[len(length) + 1 : int(length)].rstrip(b"\n"), data[int(length) :]
        key, _, value = field.partition(b"=")
        if key == b"path":
            described = described._replace(name=value)
        elif key == b"size" and value.isdigit():
            described = described._replace(size=int(value[:20]))
        elif key.startswith(b"GNU.sparse."):
            described = described._replace(refused="tar member is no plain file")
    return described


def _refuse(name: str, kind: bytes) -> str:
    if kind not in _FILES or name.endswith("/"):
        return "tar member is no plain file"
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or not parts[0] or ":" in parts[0] or "\0" in name:
        return "bad member name"
    return ""


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise _DamagedError("it ends within a member")
    return data


def _skip(stream: BinaryIO, size: int) -> None:
    if not streams.skip(stream, size):
        raise _DamagedError("it ends within a member")
