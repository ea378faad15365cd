"""How many index entries each record has: the files beside the manifest, of kinds that records have differently often.

    manifest/SPLIT.KIND.npy         uint16[records]
    manifest/SPLIT.KIND.sums.npy    int64[blocks + 1]: how many stand before each block of 4,096 records, then all

Data sets that were built before there were sums are read without.
"""

import contextlib
import functools
import io
import mmap
import os
import tempfile
from typing import Any

import numpy as np

from paligax.data.runtime import tf

BLOCK = 4096  # records
_PIECE = 16 << 20  # bytes copied at once


def counts_file(directory: str, split: str, kind: str) -> str:
    return os.path.join(directory, "manifest", f"{split}.{kind.replace(':', '-')}.npy")


def sums_file(directory: str, split: str, kind: str) -> str:
    return counts_file(directory, split, kind).removesuffix(".npy") + ".sums.npy"


def read_sums(directory: str, split: str, kind: str, records: int) -> np.ndarray | None:
    """int64[blocks + 1]: how many index entries stand before each block, then all; None where no build wrote it."""
    path = sums_file(directory, split, kind)
    if not tf.io.gfile.exists(path):
        return None
    blocks = -(-records // BLOCK)
    with tf.io.gfile.GFile(path, "rb") as f:
        try:
            sums = np.load(io.BytesIO(f.read()))
        except (ValueError, EOFError):
            sums = np.empty(0)
    if sums.shape != (blocks + 1,) or sums.dtype != np.int64 or sums[0] or (np.diff(sums) < 0).any():
        raise ValueError(
            f"{path} is damaged or of another build: expected int64[{blocks + 1}], rising from 0; got "
            f"{sums.dtype}{list(sums.shape)}. Remove it, or write the manifest anew."
        )
    return sums


class Counts:
    """How many index entries of one kind each record has, of which little is in memory: 10⁹ records are 2 GB.

    The file is mapped, and what was touched is given back by ``release``. A file that isn't local is copied once, to
    where temporary files lie.

    Raises FileNotFoundError where the file is missing, ValueError where it is of another length.
    """

    def __init__(self, directory: str, split: str, kind: str, records: int):
        path = counts_file(directory, split, kind)
        with _local(path) as file:
            try:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
            except ValueError as error:
                raise ValueError(f"{path} is no counts file: {error}. Write the manifest anew.") from error
            self._start, size = file.tell(), os.fstat(file.fileno()).st_size
            if shape != (records,) or dtype != np.dtype("<u2") or size != self._start + 2 * records:
                raise ValueError(
                    f"{path} has {dtype}{list(shape)} in {size - self._start:,} bytes; expected uint16[{records}], as "
                    "the manifest says. One of them is damaged or of another build: write the manifest anew "
                    "(paligax.data.records.write_manifest)."
                )
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._mapped.madvise(mmap.MADV_RANDOM)  # nothing beside what is asked for
        self._counts = np.frombuffer(self._mapped, "<u2", offset=self._start)
        whole = records // BLOCK
        self._whole = self._counts[: whole * BLOCK].reshape(whole, BLOCK)

    def fetch(self, first: int, last: int) -> None:
        """Has the system begin to read the counts of these records, and doesn't wait: many are read at a time so."""
        begin = (self._start + 2 * first) // mmap.PAGESIZE * mmap.PAGESIZE
        self._mapped.madvise(mmap.MADV_WILLNEED, begin, self._start + 2 * last - begin)

    def read(self, first: int, last: int) -> np.ndarray:
        """uint16[last - first], mapped."""
        return self._counts[first:last]

    def blocks(self, numbers: np.ndarray) -> np.ndarray:
        """uint16[n, BLOCK] of n blocks; what is behind the last record is 0.

        They are taken by one call: each call that waits for a file gives up Python's lock, and on a busy machine it is
        milliseconds until it comes back.
        """
        found = np.zeros((len(numbers), BLOCK), "<u2")
        beyond = numbers == len(self._whole)  # the last block, unless it is full
        if not beyond.any():
            return np.take(self._whole, numbers, axis=0, out=found, mode="clip")
        rest = self._counts[len(self._whole) * BLOCK :]
        found[~beyond] = self._whole[numbers[~beyond]]
        found[beyond, : len(rest)] = rest
        return found

    def release(self) -> None:
        """Pages stay in the system's cache, but are no longer this process's."""
        self._mapped.madvise(mmap.MADV_DONTNEED)


def _local(path: str) -> Any:
    """An open local file with what the path names."""
    with contextlib.suppress(FileNotFoundError):
        return open(path, "rb")
    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(
            f"{path!r} isn't there, which the manifest beside it needs. Write the manifest anew "
            "(paligax.data.records.write_manifest)."
        )
    copy = tempfile.TemporaryFile()
    with tf.io.gfile.GFile(path, "rb") as f:
        for piece in iter(functools.partial(f.read, _PIECE), b""):
            copy.write(piece)
    copy.flush()
    copy.seek(0)
    return copy


class CountsWriter:
    """Writes the counts of one split, shard by shard, holding none of them but the sums of blocks.

    Args:
      kinds: in the order of the rows that ``append`` gets.
      total: number of records of all shards.
    """

    def __init__(self, directory: str, split: str, kinds: list[str], total: int):
        self._kinds, self._total, self._written = kinds, total, 0
        self._paths = {kind: counts_file(directory, split, kind) for kind in kinds}
        self._sums_paths = {kind: sums_file(directory, split, kind) for kind in kinds}
        self._uniform: dict[str, int] = {}  # what all records have had so far, of kinds without a file
        self._files: dict[str, Any] = {}
        self._sums: list[np.ndarray] = []  # uint32[kinds, blocks], one behind the other
        tf.io.gfile.makedirs(os.path.join(directory, "manifest"))
        for path in self._sums_paths.values():  # of an earlier count: gone before the counts that they are of
            if tf.io.gfile.exists(path):
                tf.io.gfile.remove(path)

    def append(self, counts: np.ndarray) -> None:
        """uint16[kinds, records] of the next shard."""
        for kind, row in zip(self._kinds, counts, strict=True):
            if not row.size:
                continue
            same = self._uniform.setdefault(kind, int(row[0])) if kind not in self._files else None
            if kind not in self._files and (row != same).any():
                self._begin(kind, self._uniform.pop(kind))
            if kind in self._files:
                self._files[kind].write(row.astype("<u2").tobytes())
        if counts.shape[1]:
            self._add_up(counts)
        self._written += counts.shape[1]

    def _begin(self, kind: str, before: int) -> None:
        """A kind's file, with what all records before had."""
        file = self._files[kind] = tf.io.gfile.GFile(f"{self._paths[kind]}.part", "wb")
        header = {"descr": "<u2", "fortran_order": False, "shape": (self._total,)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, self._written, 1 << 20):
            file.write(np.full(min(1 << 20, self._written - start), before, "<u2").tobytes())

    def _add_up(self, counts: np.ndarray) -> None:
        """The block that the last shard ended in goes on with the first of these records."""
        inside = self._written % BLOCK
        starts = np.arange(-inside, counts.shape[1], BLOCK)
        starts[0] = 0
        sums = np.add.reduceat(counts, starts, axis=1, dtype=np.uint32)
        if inside:
            self._sums[-1][:, -1] += sums[:, 0]
            sums = sums[:, 1:]
        if sums.shape[1]:
            self._sums.append(sums)

    def close(self) -> dict[str, int]:
        """Returns the kinds that every record has equally often, which have no file."""
        for kind, file in self._files.items():
            file.close()
            tf.io.gfile.rename(f"{self._paths[kind]}.part", self._paths[kind], overwrite=True)  # one may be in use
        if self._written != self._total:
            raise ValueError(f"{self._written:,} records were counted; {self._total:,} were announced.")
        sums = np.concatenate(self._sums, axis=1) if self._files else np.empty((len(self._kinds), 0))
        for row, (kind, path) in enumerate(self._paths.items()):
            if kind in self._files:
                file = io.BytesIO()
                np.save(file, np.concatenate([[0], np.cumsum(sums[row], dtype=np.int64)]))
                with tf.io.gfile.GFile(self._sums_paths[kind], "wb") as f:
                    f.write(file.getvalue())
            elif tf.io.gfile.exists(path):  # of an earlier count
                tf.io.gfile.remove(path)
        return {kind: self._uniform.get(kind, 0) for kind in self._kinds if kind not in self._files}
