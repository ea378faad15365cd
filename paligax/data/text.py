"""Text in a task's graph: vocabularies, random choices from the carried seed, span corruption."""

import functools
import hashlib

import numpy as np

from paligax import vocabulary as vocabulary_lib
from paligax.data.runtime import seqio, tf

# ---------------------------------------------------------------------------------------------------- vocabularies


@functools.cache
def seqio_vocabulary(vocabulary: vocabulary_lib.Vocabulary) -> seqio.Vocabulary:
    """The seqio vocabulary that gives the same ids as a paligax one, in graphs and on the host."""
    if isinstance(vocabulary, vocabulary_lib.ByteVocabulary):
        return _Bytes(vocabulary)
    return _SentencePiece(vocabulary)


class _SentencePiece(seqio.SentencePieceVocabulary):
    def __init__(self, vocabulary: vocabulary_lib.SentencePieceVocabulary):
        vocabulary.sentinels  # noqa: B018  (opens the file: a missing or foreign one is told clearly)
        super().__init__(str(vocabulary.path), extra_ids=vocabulary.extra_ids)
        self._vocabulary = vocabulary

    @functools.cached_property
    def tf_tokenizer(self):  # one resource for the whole process, instead of a copy of the model for each use
        with tf.init_scope():
            return super().tf_tokenizer

    def _encode(self, s):
        return self._vocabulary.encode(s)

    def decode(self, ids):
        return self._vocabulary.decode(ids)

    def _encode_tf(self, s):
        # The pieces are "▁<extra_id_0>": exactly one space before a sentinel and behind it makes them match.
        s = tf.strings.regex_replace(s, r"\s*(<extra_id_\d+>)", r" \1")
        return super()._encode_tf(tf.strings.regex_replace(s, r"(<extra_id_\d+>)\s*", r"\1 "))


class _Bytes(seqio.ByteVocabulary):
    def __init__(self, vocabulary: vocabulary_lib.ByteVocabulary):
        super().__init__(extra_ids=vocabulary.extra_ids)
        self._vocabulary = vocabulary

    def _encode(self, s):
        return self._vocabulary.encode(s)

    def decode(self, ids):
        return self._vocabulary.decode(ids)

    @tf.autograph.experimental.do_not_convert
    def _encode_tf(self, s):
        # UTF-8 has no bytes above 0xf7: 0xff stands for a sentinel with one digit behind it, 0xfe for one with two, …
        s = tf.strings.unicode_transcode(tf.strings.strip(tf.reshape(s, [])), "UTF-8", "UTF-8")
        digits = range(1, len(str(self._vocabulary.extra_ids - 1)) + 1) if self._vocabulary.extra_ids else ()
        for n in digits:
            known = "|".join(str(k) for k in range(self._vocabulary.extra_ids) if len(str(k)) == n)
            s = tf.strings.regex_replace(s, rf"\s*<extra_id_({known})>\s*", bytes([256 - n]) + rb"\1")
        octets = tf.cast(tf.io.decode_raw(s, tf.uint8), tf.int32)
        ids, keep = octets + 3, tf.ones_like(octets, tf.bool)
        behind = [tf.roll(octets, -n, 0) - ord("0") for n in digits]
        number = tf.zeros_like(octets)
        for n in digits:
            number = number * 10 + behind[n - 1]
            sentinel = octets == 256 - n
            ids = tf.where(sentinel, self.vocab_size - 1 - number, ids)
            for k in range(1, n + 1):
                keep &= ~tf.roll(sentinel, k, 0)
        return tf.boolean_mask(ids, keep)


# -------------------------------------------------------------------------------------------------- random choices


def fold(seed: tf.Tensor, name: str) -> tf.Tensor:
    """The example's seed for one named choice: int32[2] → int32[2]. Another name gives an independent seed."""
    digest = hashlib.sha256(name.encode()).digest()[:8]
    return tf.bitwise.bitwise_xor(seed, tf.constant(np.frombuffer(digest, np.int32)))


def random_index(seed: tf.Tensor, count: tf.Tensor | int) -> tf.Tensor:
    """int32 scalar in [0, count); 0 where count is 0."""
    count = tf.maximum(tf.cast(count, tf.int32), 1)
    return tf.random.stateless_uniform((), seed, 0, count, tf.int32, alg="philox")


def random_uniform(seed: tf.Tensor) -> tf.Tensor:
    """float32 scalar in [0, 1)."""
    return tf.random.stateless_uniform((), seed, alg="philox")


def random_order(seed: tf.Tensor, count: tf.Tensor | int) -> tf.Tensor:
    """int32[count]: a random permutation of 0 … count - 1, for tf.gather."""
    return tf.argsort(tf.random.stateless_uniform((count,), seed, alg="philox"))


# ------------------------------------------------------------------------------------------------- span corruption


def corrupt_spans(
    ids: tf.Tensor,
    seed: tf.Tensor,
    vocabulary: vocabulary_lib.Vocabulary,
    noise_density: float = 0.15,
    mean_span: float = 3.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """T5's span corruption (Raffel et al. 2020, section 3.1.4) with stateless random numbers.

        ids      a b c d e f g h          inputs   a b <0> e f g <1>
        noise        ^ ^       ^          targets  <0> c d <1> h

    Args:
      ids: int32[n] without EOS, n ≥ 2 (fewer come back as they are, with empty targets).
      seed: int32[2].
      vocabulary: gives the sentinels; its number bounds the number of spans.
      noise_density: share of the ids to be replaced. mean_span: their mean length.

    Returns:
      inputs int32[<n], targets int32[m], neither with EOS.
    """
    length = tf.size(ids)
    enough = length >= 2
    n = tf.maximum(length, 2)
    noise = tf.clip_by_value(tf.cast(tf.round(tf.cast(n, tf.float32) * noise_density), tf.int32), 1, n - 1)
    spans = tf.cast(tf.round(tf.cast(noise, tf.float32) / mean_span), tf.int32)
    spans = tf.clip_by_value(spans, 1, tf.minimum(tf.minimum(noise, n - noise), vocabulary.num_sentinels))
    kept_lengths = _random_parts(n - noise, spans, fold(seed, "kept"))
    noise_lengths = _random_parts(noise, spans, fold(seed, "noise"))
    lengths = tf.reshape(tf.stack([kept_lengths, noise_lengths], axis=1), [-1])  # kept, noise, kept, noise, …
    part = tf.repeat(tf.range(2 * spans), lengths)[:length]
    is_noise = (part % 2 == 1) & enough
    sentinel = vocabulary.sentinel(0) - part // 2  # of the pair of parts
    starts = tf.concat([[True], part[1:] != part[:-1]], axis=0)[:length]
    inputs = tf.boolean_mask(tf.where(is_noise, sentinel, ids), ~is_noise | starts)
    # each span behind its sentinel: two columns a position, the sentinel's used where a span starts
    pairs = tf.stack([sentinel, ids], axis=1)
    used = tf.stack([is_noise & starts, is_noise], axis=1)
    return inputs, tf.boolean_mask(pairs, used)


def _random_parts(total: tf.Tensor, parts: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """int32[parts], each at least 1, summing to total: all such splits equally likely."""
    cuts = tf.sort(tf.gather(random_order(seed, total - 1), tf.range(parts - 1))) + 1
    edges = tf.concat([[0], cuts, [total]], axis=0)
    return edges[1:] - edges[:-1]
