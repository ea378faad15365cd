"""seqio data sources with random access."""

import functools
import os
from collections.abc import Sequence

import numpy as np

from paligax.data import shards
from paligax.data.runtime import seqio, tf


class RecordSource(seqio.DataSource):
    """ArrayRecord shards with a manifest, as a source of index entries.

    Examples are ``{"record": bytes, "item": int64, "seed": int32[2]}``; the stream reads them by number and gives each
    its own seed. Nothing is opened before it is needed, so that tasks can be registered where the data is not.

    Args:
      directory: holds shards and manifest.json (a tfds builder's directory, or our own).
      split: the one split to offer; None offers every split of the manifest.
      items: what an index entry is: "record" (each record once), "qa" (each question), … (items.ITEMS).
    """

    def __init__(self, directory: str, split: str | None = None, items: str = "record"):
        self.directory = os.fspath(directory)
        self.items = items
        self._only = split
        super().__init__(splits=(), caching_permitted=False)

    @functools.cached_property
    def _manifest(self) -> dict[str, shards.Split]:
        manifest = shards.read_manifest(self.directory)
        return manifest if self._only is None else {self._only: _find(manifest, self._only, self.directory)}

    @property
    def splits(self) -> Sequence[str]:
        return tuple(self._manifest)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def split(self, name: str) -> shards.Split:
        """Raises ValueError with the nearest known name where the data set has no such split."""
        return _find(self._manifest, name, self.directory)

    def entries(self, split: str) -> shards.Entries:
        """The index: its length is an epoch, ``locate`` turns entries into (record, item)."""
        return self.split(split).entries(self.items)

    def num_input_examples(self, split: str) -> int:
        return len(self.entries(split))

    def list_shards(self, split: str) -> Sequence[str]:
        return self.split(split).paths

    def get_dataset(self, split="train", shuffle=False, seed=None, shard_info=None, **unused) -> tf.data.Dataset:
        """Every index entry once, in order, as seqio's own tools expect it. The stream does not come this way."""
        del shuffle, unused
        first, stride = (shard_info.index, shard_info.num_shards) if shard_info else (0, 1)
        entries = np.arange(first, len(self.entries(split)), stride)
        readers = shards.Readers()

        def generate():
            for k in entries:
                record, item = self.entries(split).locate(np.array([k]))
                yield {
                    "record": readers.read(self.split(split), record)[0],
                    "item": item[0],
                    "seed": np.array([seed or 0, k], np.int64).astype(np.int32),
                }

        return tf.data.Dataset.from_generator(
            generate,
            output_signature={
                "record": tf.TensorSpec((), tf.string),
                "item": tf.TensorSpec((), tf.int64),
                "seed": tf.TensorSpec((2,), tf.int32),
            },
        )

    def __str__(self) -> str:
        return f"RecordSource({self.directory!r}, items={self.items!r})"


def _find(manifest: dict[str, shards.Split], name: str, directory: str) -> shards.Split:
    if name not in manifest:
        raise ValueError(f"The data set in {directory!r} has no split {name!r}; it has {', '.join(manifest)}.")
    return manifest[name]
