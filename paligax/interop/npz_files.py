"""numpy's .npz archives, mapped where a member is stored as it is (numpy.savez), else unpacked a member at a time.

Nothing is ever unpickled: arrays of objects are refused. bfloat16 arrays, which numpy stores as two opaque bytes
("V2"), come back as bfloat16.
"""

import os
import pathlib
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from paligax.interop.opened import Lazy

_ENDING = ".npy"
_LOCAL_HEADER = 30  # bytes, before name and extra field
_MOST_SQUEEZED = 1100  # deflate can't do better than 1,032 to 1


def open_archive(path: str | os.PathLike) -> dict[str, Any]:
    """Name → read-only array over the mapped file, or :class:`Lazy` where the member is compressed.

    Raises FileNotFoundError, and ValueError where the file is cut short, damaged or no .npz.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No weight file {str(path)!r}. Was the model copied completely?")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            return {_name(info): _member(path, archive, info) for info in members}
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, struct.error, NotImplementedError) as error:
        raise ValueError(f"{str(path)!r} is no .npz file, or is damaged ({error}): copy it again.") from error


def _name(info: zipfile.ZipInfo) -> str:
    if not info.filename.endswith(_ENDING):
        raise ValueError(f"its member {info.filename!r} is no array")
    return info.filename.removesuffix(_ENDING)


def _member(path: pathlib.Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:
    if info.flag_bits & 1:
        raise ValueError(f"its member {info.filename!r} is encrypted")
    if info.file_size > max(1 << 16, info.compress_size * _MOST_SQUEEZED):
        raise ValueError(f"its member {info.filename!r} claims {info.file_size} bytes in {info.compress_size}")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read_header:
            raise ValueError(f"its member {info.filename!r} is of version {version}")
        shape, fortran, stored = read_header[version](file)
        start = file.tell()
    if stored.hasobject:
        raise ValueError(f"its member {info.filename!r} holds Python objects, which are never unpickled")
    count = int(np.prod(shape, dtype=object))
    if start + count * stored.itemsize != info.file_size:
        raise ValueError(f"its member {info.filename!r} of shape {list(shape)} and {stored} has {info.file_size} bytes")
    dtype = np.dtype(ml_dtypes.bfloat16) if stored.str == "|V2" else stored

    def shaped(data: np.ndarray) -> np.ndarray:
        array = data.view(stored).view(dtype)
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)

    if info.compress_type == zipfile.ZIP_STORED and count:
        return shaped(_mapped(path, info)[start:])

    def unpacked() -> np.ndarray:
        with zipfile.ZipFile(path) as archive, archive.open(info) as file:
            return shaped(np.frombuffer(file.read(), np.uint8)[start:])

    return Lazy(shape, dtype, unpacked)


def _mapped(path: pathlib.Path, info: zipfile.ZipInfo) -> np.ndarray:
    """The bytes of a stored member, as they lie in the file."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER)
        if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
            raise ValueError(f"its member {info.filename!r} is not where its index says")
        lengths = struct.unpack("<HH", header[26:30])
    start = info.header_offset + _LOCAL_HEADER + sum(lengths)
    whole = np.memmap(path, np.uint8, "r")
    if start + info.file_size > whole.size:
        raise ValueError(f"its member {info.filename!r} is cut short")
    return np.asarray(whole[start : start + info.file_size])


def write(
    path: str | os.PathLike, shapes: Mapping[str, tuple[Sequence[int], Any]], make: Callable[[str], np.ndarray]
) -> int:
    """Writes one uncompressed .npz file, an array at a time, as ``numpy.savez`` does; returns its bytes.

    Args:
      shapes: name → (shape, dtype), in the order of the file.
      make: name → its array, called once each and let go.

    Raises ValueError where an array isn't what was announced.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, (shape, dtype) in shapes.items():
            array = make(name)
            if array.shape != tuple(shape) or array.dtype != np.dtype(dtype):
                raise ValueError(f"{name!r} is {array.dtype}{list(array.shape)}; announced as {dtype}{list(shape)}.")
            info = zipfile.ZipInfo(name + _ENDING)  # of 1980: the same arrays give the same file
            with archive.open(info, "w", force_zip64=True) as file:
                # as bytes after the header: numpy itself would pickle what it doesn't know
                array = np.ascontiguousarray(array)
                opaque = array.view(np.dtype("V2")) if array.dtype == ml_dtypes.bfloat16 else array
                described = {"descr": np.lib.format.dtype_to_descr(opaque.dtype), "fortran_order": False}
                np.lib.format.write_array_header_1_0(file, described | {"shape": tuple(shape)})
                file.write(array.reshape(-1).view(np.uint8).data)
    return pathlib.Path(path).stat().st_size
