"""safetensors files, mapped instead of loaded, one or many behind one index; nothing in them is believed unchecked.

A tensor is a view of its file's pages, which the system drops again when memory is short: who copies leaf after leaf
holds one copy of the weights.
"""

import difflib
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

INDEX_ENDING = ".index.json"
_MAX_HEADER = 100 << 20  # bytes, safetensors' own limit
_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(bool),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


class Tensors(Mapping[str, np.ndarray]):
    """Name → read-only array over the mapped file.

    Raises (at opening) FileNotFoundError naming the file, ValueError where it is cut short, too long, or its header
    says what cannot be.
    """

    def __init__(self, path: str | os.PathLike):
        self.place = str(path)
        path = pathlib.Path(path)
        files = files_of_index(path) if path.name.endswith(INDEX_ENDING) else {None: path}
        self._arrays: dict[str, np.ndarray] = {}
        for file, expected in files.items() if None not in files else [(path, None)]:
            arrays = _mapped(pathlib.Path(file))
            if expected is not None and (lacking := [name for name in expected if name not in arrays]):
                raise ValueError(
                    f"{self.place!r} says that {file.name!r} holds {lacking[0]!r}; it does not. Copy both again."
                )
            self._arrays |= arrays if expected is None else {name: arrays[name] for name in expected}

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._arrays[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._arrays, n=1)
            hint = f"; the nearest is {near[0]}" if near else ""
            raise KeyError(f"{self.place} has no tensor {name!r}{hint}.") from None

    def __iter__(self):
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def files_of_index(path: pathlib.Path) -> dict[pathlib.Path, list[str]]:
    """File → names of its tensors, of an index file beside them."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        pairs = [(str(name), str(file)) for name, file in entries.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is no index of safetensors files ({error}): copy it again.") from error
    files: dict[pathlib.Path, list[str]] = {}
    for name, file in pairs:
        if file != pathlib.PurePath(file).name or file in ("", ".", ".."):
            raise ValueError(f"{str(path)!r} places {name!r} in {file!r}, which is not a file beside it: refused.")
        files.setdefault(path.parent / file, []).append(name)
    return files


def _mapped(path: pathlib.Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"No weight file {str(path)!r}. Was the model copied completely?")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise ValueError(f"{str(path)!r} is cut short or no safetensors file ({size} bytes): copy it again.")
        try:
            header = json.loads(file.read(length))
            entries = [_entry(name, header[name]) for name in header if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{str(path)!r} is no safetensors file: its header can't be read ({error}).") from error
    entries.sort(key=lambda entry: entry[3:])
    position = 0
    for name, _, _, start, end in entries:
        if start != position:
            raise ValueError(f"{str(path)!r}: {name!r} begins at byte {start} of the data, expected {position}.")
        position = end
    expected = 8 + length + position
    if size != expected:
        raise ValueError(
            f"{str(path)!r} has {size} bytes, its header announces {expected}: the file is "
            f"{'cut short' if size < expected else 'too long'}. Copy it again."
        )
    if not position:  # tensors without elements, or none: there is nothing to map
        return {name: np.zeros(shape, dtype) for name, dtype, shape, _, _ in entries}
    data = np.memmap(path, np.uint8, "r", offset=8 + length)
    return {name: np.asarray(data[start:end]).view(dtype).reshape(shape) for name, dtype, shape, start, end in entries}


def _entry(name: str, entry: Mapping[str, Any]) -> tuple[str, np.dtype, tuple[int, ...], int, int]:
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"{name!r} has dtype {entry['dtype']!r}; known: {', '.join(_DTYPES)}")
    dtype, shape, (start, end) = _DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["data_offsets"]
    numbers = (*shape, start, end)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"{name!r} has shape {list(shape)} and offsets {start}, {end}: all must be natural numbers")
    if end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name!r} of shape {list(shape)} and {dtype} lies in {end - start} bytes")
    return name, dtype, shape, start, end


def write(
    path: str | os.PathLike,
    shapes: Mapping[str, tuple[Sequence[int], Any]],
    make: Callable[[str], np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> int:
    """Writes one safetensors file, a tensor at a time; returns its bytes.

    Args:
      shapes: name → (shape, dtype), in the order of the file.
      make: name → its array, called once each and let go.
      metadata: texts for the header.

    Raises ValueError where an array isn't what was announced, or a dtype has no place in the format.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    position = 0
    for name, (shape, dtype) in shapes.items():
        if np.dtype(dtype) not in _CODES:
            raise ValueError(f"{name!r} has dtype {dtype}; a safetensors file takes {', '.join(map(str, _CODES))}.")
        end = position + math.prod(shape) * np.dtype(dtype).itemsize
        header[name] = {
            "dtype": _CODES[np.dtype(dtype)],
            "shape": [int(size) for size in shape],
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * ((56 - len(text)) % 64)  # so that the data begin at a multiple of 64 bytes
    with pathlib.Path(path).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, (shape, dtype) in shapes.items():
            array = make(name)
            if array.shape != tuple(shape) or array.dtype != np.dtype(dtype):
                raise ValueError(f"{name!r} is {array.dtype}{list(array.shape)}; announced as {dtype}{list(shape)}.")
            # as bytes: Python's buffers don't know bfloat16
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return file.tell()
