"""Reading what is not ours: files found by pattern, bounded in size, and never outside the folder they are named in."""

import difflib
import json
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Any

from paligax.data.ingest.reader import Problem
from paligax.data.runtime import tf

MAX_IMAGE_BYTES = 64 << 20
MAX_JSON_BYTES = 8 << 30
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_MOST_IN_RANGE = 1_000_000


def matching(path: str, suffixes: Sequence[str] = ()) -> list[str]:
    """The files that a pattern matches, or a folder holds, sorted; ``suffixes`` (".tar") are asked of a folder's files.

    A path may be a list too, separated by commas, and hold one range of numbers ("{00000..00041}.tar"), of which no
    file may be missing. Raises FileNotFoundError that says what is there instead, ValueError for an endless range.
    """
    found: list[str] = []
    for part in path.split(","):
        if tf.io.gfile.isdir(part):
            names = [n for n in tf.io.gfile.listdir(part) if not suffixes or n.lower().endswith(tuple(suffixes))]
            found += [os.path.join(part, name) for name in names if not name.endswith("/")]
        elif _RANGE.search(part):
            found += _of_range(part)
        else:
            found += tf.io.gfile.glob(part)
    found = [one for one in found if not os.path.isdir(one)]
    if not found:
        wanted = f" with {' or '.join(suffixes)} files" if suffixes else ""
        raise FileNotFoundError(
            f"Nothing matches {path!r}: expected a file, a pattern, or a folder{wanted}.{_nearest(path)}"
        )
    return sorted(found)


def _of_range(pattern: str) -> list[str]:
    """Every file of "{00000..00041}"; each may have wildcards besides."""
    first, last = _RANGE.search(pattern).groups()
    numbers = range(int(first), int(last) + 1)
    if not 0 < len(numbers) <= _MOST_IN_RANGE:
        raise ValueError(f"{pattern!r}: expected a range of at most {_MOST_IN_RANGE:,} numbers, from lower to higher.")
    found = []
    for number in numbers:
        one = _RANGE.sub(f"{number:0{len(first)}}", pattern, count=1)
        some = tf.io.gfile.glob(one)
        if not some:
            raise FileNotFoundError(f"Nothing matches {one!r}, of {pattern!r}.")
        found += some
    return found


def _nearest(path: str) -> str:
    """The end of a message, where a local folder holds a file of nearly this name."""
    folder, name = os.path.split(path)
    if "*" in path or not os.path.isdir(folder or "."):
        return ""
    near = difflib.get_close_matches(name, os.listdir(folder or "."), 1)
    return f" Did you mean {os.path.join(folder, near[0])!r}?" if near else ""


def open_file(path: str, mode: str = "rb") -> Any:
    """A file, local or on any store that TensorFlow knows. Raises FileNotFoundError at once, not when it is read."""
    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(f"No file {path!r}.")
    return open(path, mode) if os.path.exists(path) else tf.io.gfile.GFile(path, mode)


def read(path: str, limit: int = MAX_IMAGE_BYTES) -> bytes:
    """Raises FileNotFoundError, and ValueError where the file is larger than ``limit`` bytes (nothing is read then)."""
    with open_file(path) as f:
        size = os.fstat(f.fileno()).st_size if hasattr(f, "fileno") else f.size()
        if size > limit:
            raise ValueError(f"{path!r} has {size:,} bytes; at most {limit:,} are read.")
        return f.read()


def load_json(path: str, limit: int = MAX_JSON_BYTES) -> Any:
    """Raises FileNotFoundError, and ValueError saying where a file is no JSON or too large."""
    try:
        return json.loads(read(path, limit))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path!r} is not a JSON file: {error}") from error


def image_of(folder: str, name: str) -> bytes | Problem:
    """The bytes of ``folder/name``; a Problem where it is missing, empty, too large, or a name that leads outside."""
    inside = posixpath.normpath(name.replace("\\", "/"))
    where = os.path.join(folder, name[:200])
    if not name or inside.startswith(("/", "..")) or ":" in inside or "\0" in inside:
        return Problem("bad file name", where)
    try:
        data = read(os.path.join(folder, inside))
    except FileNotFoundError:
        return Problem("image missing", where)
    except ValueError:
        return Problem("image file too large", where)
    except (OSError, tf.errors.OpError):
        return Problem("image unreadable", where)
    return data or Problem("image empty", where)


def pieces(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """``size`` items at a time."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])
