"""Our own shards again: to score, filter, merge or cut anew what was built before."""

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
from google.protobuf.message import DecodeError

from paligax.data import records, shards
from paligax.data.ingest.reader import Problem, Reader, Record
from paligax.data.ingest.readers import fields

_AT_ONCE = 64


@dataclasses.dataclass(frozen=True)
class Records(Reader):
    """The records of a data directory with a manifest, in order.

    Attributes:
      path: the directory, or several with commas between.
      split: one split of it; "": all of them, one after another.
      shards_per_unit: how many shards become one.
      source: what the records' ``source`` says where it is empty; what they have stays.
    """

    path: str
    split: str = "train"
    shards_per_unit: int = 1
    source: str = "records"

    def units(self) -> Iterator[list]:
        """[directory, split, first shard, one behind the last].

        Raises FileNotFoundError where a manifest or a shard is missing, ValueError where the split is.
        """
        for directory in self.path.split(","):
            manifest = shards.read_manifest(directory)
            if self.split and self.split not in manifest:
                raise ValueError(f"{directory!r} has no split {self.split!r}{fields.nearest(self.split, manifest)}")
            for name in [self.split] if self.split else sorted(manifest):
                manifest[name].require_shards()
                count = len(manifest[name].paths)
                for first in range(0, count, self.shards_per_unit):
                    yield [directory, name, first, min(first + self.shards_per_unit, count)]

    def read(self, unit: list) -> Iterator[Record | Problem]:
        directory, name, first, end = unit
        split = shards.read_manifest(directory)[name]
        readers = shards.Readers()
        for shard in range(first, end):
            start, behind = int(split.ends[shard - 1]) if shard else 0, int(split.ends[shard])
            for at in range(start, behind, _AT_ONCE):
                numbers = np.arange(at, min(at + _AT_ONCE, behind))
                try:
                    found = readers.read(split, numbers)
                except OSError:  # none of these can be read
                    found = [shards.UNREADABLE] * len(numbers)
                for number, serialized in zip(numbers, found, strict=True):
                    try:
                        record = records.decode(serialized)
                    except DecodeError:
                        yield Problem("unreadable record", f"{split.paths[shard]} record {number - start}")
                        continue
                    yield {**record, "source": record["source"] or self.source}
        with contextlib.suppress(RuntimeError):  # closing a damaged shard says once more that it is
            readers.close()
