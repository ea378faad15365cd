"""Which objects are in an image and which are not: what object-aware VQA and detection choose from."""

import functools
from collections.abc import Sequence

import numpy as np

from paligax.data import text
from paligax.data.runtime import tf
from tasks.parts import Example, shuffled


class Classes:
    """A class list, for use in graphs.

    Args:
      names: the class names, each once. May be empty: then only what records verify as absent is known to be absent.

    Raises:
      ValueError: a name is empty, has blanks at its ends, or comes twice.
    """

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        if isinstance(names, str):
            raise ValueError(f"Class names must be a list of names; got the one string {names!r}.")
        for name in self.names:
            if name != name.strip() or not name:
                raise ValueError(f"Class name {name!r} is empty or has blanks at its ends; strip the names.")
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"Class names must be distinct; these come more than once: {', '.join(twice[:5])}.")

    def __len__(self) -> int:
        return len(self.names)

    def sample(self, example: Example, name: str, count: tf.Tensor) -> tf.Tensor:
        """string[min(count, C)]: different classes, all equally likely."""
        if not self.names:
            return tf.constant([], tf.string)
        seed = text.fold(example["seed"], name)
        scores = tf.random.stateless_uniform((len(self.names),), seed, alg="philox")
        return tf.gather(tf.constant(self.names), tf.math.top_k(scores, tf.minimum(count, len(self.names))).indices)

    def multi_hot(self, labels: tf.Tensor) -> tf.Tensor:
        """string[n] → float32[C]: 1 for the classes among the labels; labels that are no class count for nothing.

        A label is looked up by its hash among the classes' sorted ones: with thousands of classes, comparing strings
        would cost more than decoding the image.
        """
        order, hashes = self._sorted_hashes
        wanted = _hash(labels)
        place = tf.minimum(tf.searchsorted(hashes, wanted), len(self) - 1)
        found = tf.boolean_mask(tf.gather(order, place), tf.gather(hashes, place) == wanted)
        hits = tf.scatter_nd(found[:, None], tf.ones_like(found, tf.float32), (len(self),))
        return tf.minimum(hits, 1.0)

    @functools.cached_property
    def _sorted_hashes(self) -> tuple[np.ndarray, np.ndarray]:
        """int32[C], int64[C]: the classes in the order of their hashes, and the hashes."""
        with tf.init_scope():
            hashes = _hash(tf.constant(self.names)).numpy()
        order = np.argsort(hashes)
        if len(np.unique(hashes)) < len(hashes):
            raise ValueError("Two class names have one hash; rename one of them.")
        return order.astype(np.int32), hashes[order]


def _hash(names: tf.Tensor) -> tf.Tensor:
    return tf.strings.to_hash_bucket_fast(names, 2**63 - 1)


def present(example: Example) -> tf.Tensor:
    """string[n]: the labels of the image's objects, each once, in the record's order."""
    return tf.unique(tf.boolean_mask(example["objects/label"], named(example) & ~example["objects/verified_absent"])).y


def named(example: Example) -> tf.Tensor:
    """bool[objects]: objects with a label."""
    return example["objects/label"] != ""


def absent(example: Example, present: tf.Tensor, classes: Classes, count: int) -> tf.Tensor:
    """string[≤ count]: labels that are not among `present`, each once.

    First, in random order, those that the record verifies as absent; then classes of the list at random. These may be
    in the image unlabelled: labels are not exhaustive.
    """
    verified = tf.boolean_mask(example["objects/label"], named(example) & example["objects/verified_absent"])
    verified = shuffled(example, "verified", verified)
    # However many of the sample are present, `count` others remain (if the list has so many).
    sampled = classes.sample(example, "sampled", count + tf.size(present))
    candidates = tf.unique(tf.concat([verified, sampled], axis=0)).y
    return tf.boolean_mask(candidates, ~among(candidates, present))[:count]


def among(labels: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """string[n], string[m] → bool[n]: which labels are also in `others`."""
    return tf.reduce_any(labels[:, None] == others[None, :], axis=1)
