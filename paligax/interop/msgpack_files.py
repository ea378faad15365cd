"""flax's msgpack files, mapped: arrays are views of the file's pages, and only what flax writes is understood.

Formats: the msgpack specification; flax.serialization's extension types (1: an array, 2: a complex number, 3: a numpy
scalar) and its arrays in chunks of a gigabyte. ``flax.serialization.from_bytes`` would hold the file and its arrays at
the same time.
"""

import math
import os
import pathlib
import struct
from typing import Any

import ml_dtypes
import numpy as np

from paligax.interop.opened import Lazy

_DEEPEST = 100
_CHUNKED = "__msgpack_chunked_array__"
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
# Lead byte → (kind, struct format of the length or value)
_LEADS = {
    0xC4: ("bytes", ">B"), 0xC5: ("bytes", ">H"), 0xC6: ("bytes", ">I"),
    0xC7: ("extension", ">B"), 0xC8: ("extension", ">H"), 0xC9: ("extension", ">I"),
    0xCA: ("number", ">f"), 0xCB: ("number", ">d"),
    0xCC: ("number", ">B"), 0xCD: ("number", ">H"), 0xCE: ("number", ">I"), 0xCF: ("number", ">Q"),
    0xD0: ("number", ">b"), 0xD1: ("number", ">h"), 0xD2: ("number", ">i"), 0xD3: ("number", ">q"),
    0xD9: ("text", ">B"), 0xDA: ("text", ">H"), 0xDB: ("text", ">I"),
    0xDC: ("list", ">H"), 0xDD: ("list", ">I"), 0xDE: ("map", ">H"), 0xDF: ("map", ">I"),
}  # fmt: skip
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def read_tree(path: str | os.PathLike) -> dict[str, Any]:
    """The nested dict of a file that ``flax.serialization.to_bytes`` made; its arrays are views of the mapped file.

    Raises FileNotFoundError, and ValueError where the file is cut short, damaged, or holds something else.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weight file {str(path)!r}. Was the model copied completely?")
    size = path.stat().st_size
    data = np.memmap(path, np.uint8, "r") if size else np.zeros(0, np.uint8)
    reader = _Reader(data, 0, size)
    try:
        tree = reader.value()
        if reader.position != size:
            raise ValueError(f"{size - reader.position} bytes are left over")
        if not isinstance(tree, dict):
            raise ValueError(f"it holds a {type(tree).__name__}, expected a tree of names")
        return tree
    except (ValueError, TypeError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} is no msgpack file of flax, or damaged ({error}): copy it again.") from error


class _Reader:
    """Reads values one after another from data[position:end]; never past the end, never more than is there."""

    def __init__(self, data: np.ndarray, position: int, end: int, depth: int = 0):
        self._data, self.position, self._end, self._depth = data, position, end, depth

    def _take(self, count: int) -> np.ndarray:
        if count > self._end - self.position:
            raise ValueError(f"it is cut short: byte {self.position + count} of {self._end} is asked for")
        self.position += count
        return np.asarray(self._data[self.position - count : self.position])

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)).tobytes())[0]

    def value(self) -> Any:
        lead = self._number(">B")
        if lead < 0x80:
            return lead
        if lead >= 0xE0:
            return lead - 0x100
        if lead < 0x90:
            return self._map(lead & 0x0F)
        if lead < 0xA0:
            return self._list(lead & 0x0F)
        if lead < 0xC0:
            return self._text(lead & 0x1F)
        if lead in _CONSTANTS:
            return _CONSTANTS[lead]
        if lead in _FIXED_EXTENSIONS:
            return self._extension(_FIXED_EXTENSIONS[lead])
        if lead not in _LEADS:
            raise ValueError(f"byte {lead:#x} at {self.position - 1} begins no value")
        kind, form = _LEADS[lead]
        read = {
            "number": lambda number: number,
            "bytes": self._take,
            "text": self._text,
            "list": self._list,
            "map": self._map,
            "extension": self._extension,
        }
        return read[kind](self._number(form))

    def _text(self, length: int) -> str:
        return self._take(length).tobytes().decode("utf-8")

    def _deeper(self, count: int) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        if count > self._end - self.position:  # each item has a byte at least
            raise ValueError(f"it announces {count} items and has {self._end - self.position} bytes left")

    def _list(self, count: int) -> list[Any]:
        self._deeper(count)
        found = [self.value() for _ in range(count)]
        self._depth -= 1
        return found

    def _map(self, count: int) -> Any:
        self._deeper(count)
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.value()
            if not isinstance(key, str | int) or str(key) in found:
                raise ValueError(f"{key!r} is no name, or is there twice")
            found[str(key)] = self.value()
        self._depth -= 1
        return _joined(found) if _CHUNKED in found else found

    def _extension(self, length: int) -> Any:
        code = self._number(">b")
        end = self.position + length
        if end > self._end:
            raise ValueError(f"it is cut short: byte {end} of {self._end} is asked for")
        inner = _Reader(self._data, self.position, end, self._depth + 1)
        self.position = end
        if code == _COMPLEX:
            real, imaginary = inner.value()
            return complex(real, imaginary)
        if code not in (_ARRAY, _SCALAR):
            raise ValueError(f"extension type {code} is none of flax's")
        shape, name, data = inner.value()
        return _array(shape, name, data)


def _array(shape: Any, name: Any, data: Any) -> np.ndarray:
    if not isinstance(data, np.ndarray) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"an array has shape {shape!r}, which can't be")
    dtype = np.dtype(ml_dtypes.bfloat16) if name in ("bfloat16", "V2") else np.dtype(str(name))
    if dtype.hasobject:
        raise ValueError(f"an array has dtype {name!r}, which can't be")
    if math.prod(shape) * dtype.itemsize != data.size:
        raise ValueError(f"an array of shape {list(shape)} and {dtype} lies in {data.size} bytes")
    return data.view(dtype).reshape(shape)


def _joined(chunked: dict[str, Any]) -> Lazy:
    """An array that flax cut into chunks of at most a gigabyte."""
    parts = chunked.get("chunks")
    shape = chunked.get("shape")
    shape = [shape[str(i)] for i in range(len(shape))] if isinstance(shape, dict) else shape
    parts = [parts[str(i)] for i in range(len(parts))] if isinstance(parts, dict) else parts
    if not parts or not all(isinstance(part, np.ndarray) for part in parts) or not isinstance(shape, list | tuple):
        raise ValueError("an array in chunks lacks its shape or its chunks")
    if math.prod(shape) != sum(part.size for part in parts) or len({part.dtype for part in parts}) > 1:
        raise ValueError(f"an array of shape {list(shape)} doesn't fit its chunks")
    return Lazy(
        shape, parts[0].dtype, lambda: np.concatenate([part.reshape(-1) for part in parts]).reshape(tuple(shape))
    )
