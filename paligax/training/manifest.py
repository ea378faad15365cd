"""Which files a checkpoint consists of, with sizes and checksums. Written last: without it, a checkpoint isn't whole.

crc32 finds what disks and interrupted copies do; it is no protection against people.
"""

import concurrent.futures
import json
import pathlib
import zlib

NAME = "manifest.json"

# The checkpoint library touches these after it has committed the arrays.
_UNTRACKED = (NAME, "_CHECKPOINT_METADATA", "commit_success.txt")
_CHUNK = 16 * 2**20
_THREADS = 8


def _entry(path: pathlib.Path) -> tuple[int, int]:
    """(size in bytes, crc32) of a file."""
    size = checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            checksum = zlib.crc32(chunk, checksum)
    return size, checksum


def _files(directory: pathlib.Path) -> dict[str, pathlib.Path]:
    found = {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*")) if path.is_file()}
    return {name: path for name, path in found.items() if name not in _UNTRACKED}


def write(directory: pathlib.Path) -> None:
    """Reads every file below the directory and writes manifest.json, atomically."""
    files = _files(directory)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        entries = dict(zip(files, pool.map(_entry, files.values()), strict=True))
    partial = directory / (NAME + ".partial")
    partial.write_text(json.dumps({"format": 1, "files": entries}, indent=1))
    partial.replace(directory / NAME)


def exists(directory: pathlib.Path) -> bool:
    return (directory / NAME).is_file()


def fault(directory: pathlib.Path, under: str = "") -> str:
    """What is wrong with a checkpoint, "" where all of it is as it was written.

    Args:
      directory: of one step.
      under: only files whose path starts with this are read.
    """
    try:
        entries = json.loads((directory / NAME).read_text())["files"]
    except FileNotFoundError:
        return f"it has no {NAME}: writing it was interrupted"
    except (ValueError, KeyError, TypeError):
        return f"its {NAME} can't be read"
    expected = {name: tuple(entry) for name, entry in entries.items() if name.startswith(under)}
    for name, (size, _) in expected.items():  # sizes first: they are free
        path = directory / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes instead of {size}"
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(_entry, [directory / name for name in expected])
        for (name, entry), got in zip(expected.items(), found, strict=True):
            if got != entry:
                return f"{name} has changed since it was written (checksum)"
    return ""
