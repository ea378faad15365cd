"""``paligax.vocabulary`` in TensorFlow's operations: texts → ids with sentinels, ids → texts.

Sentencepiece needs tensorflow_text, whose operations must also be there when the SavedModel is loaded; bytes need
nothing but TensorFlow.
"""

import pathlib
from typing import Any, Protocol

import tensorflow as tf

from paligax.vocabulary import ByteVocabulary, SentencePieceVocabulary, Vocabulary

# What Python's str.strip() takes for white space, in RE2's words.
_SPACE = r"[\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"
_CUT = b"\xff"  # no byte of UTF-8


class Pieces(Protocol):
    """Texts without sentinels ↔ ids. A tf.Module, by which TensorFlow finds what it has to save.

    Attributes:
      end: the first id that is no piece.
    """

    end: int

    def encode(self, texts: Any) -> Any:
        """string[N] → ragged int32[N, …]."""

    def decode(self, ids: Any) -> Any:
        """Ragged int32[N, …], all of them ids of pieces → string[N]."""


class SentencePieces(tf.Module):
    """Of a sentencepiece file, whose bytes become part of the graph."""

    def __init__(self, path: str):
        import tensorflow_text

        super().__init__()
        model = pathlib.Path(path).read_bytes()
        self._tokenizer = tensorflow_text.SentencepieceTokenizer(model=model, out_type=tf.int32)
        self.end = int(self._tokenizer.vocab_size())

    def encode(self, texts: Any) -> Any:
        return self._tokenizer.tokenize(texts)

    def decode(self, ids: Any) -> Any:
        return self._tokenizer.detokenize(ids)


class Bytes(tf.Module):
    """UTF-8 bytes from id 3 on."""

    end = 259

    def encode(self, texts: Any) -> Any:
        letters = tf.strings.bytes_split(texts)
        values = tf.reshape(tf.io.decode_raw(letters.values, tf.uint8), [-1])
        return letters.with_values(tf.cast(values, tf.int32) + 3)

    def decode(self, ids: Any) -> Any:
        ids = tf.ragged.boolean_mask(ids, ids >= 3)
        letters = ids.with_values(tf.gather([bytes([byte]) for byte in range(256)], ids.values - 3))
        return tf.strings.unicode_transcode(tf.strings.reduce_join(letters, axis=1), "UTF-8", "UTF-8", errors="ignore")


def pieces_of(vocabulary: Vocabulary) -> Pieces:
    """Raises ValueError for a vocabulary that has no form in TensorFlow."""
    if isinstance(vocabulary, SentencePieceVocabulary):
        return SentencePieces(vocabulary.path)
    if isinstance(vocabulary, ByteVocabulary):
        return Bytes()
    raise ValueError(f"{type(vocabulary).__name__} has no form in TensorFlow's operations.")


class Texts(tf.Module):
    """A vocabulary with its sentinels.

    Args:
      vocabulary: of paligax.vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary):
        super().__init__()
        self._pieces = pieces_of(vocabulary)
        self._ids = [vocabulary.sentinel(k) for k in range(vocabulary.num_sentinels)]
        self._eos = vocabulary.eos_id

    def encode(self, texts: Any, length: int) -> Any:
        """string[B] → int32[B, length]: as ``paligax.inference.rows.prompt_ids``, padded with 0."""
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
        if self._ids:
            numbers = "|".join(str(k) for k in range(len(self._ids)))
            sentinel = f"{_SPACE}*(<extra_id_(?:{numbers})>){_SPACE}*"
            texts = tf.strings.regex_replace(texts, sentinel, _CUT + rb"\1" + _CUT)
        parts = tf.strings.split(texts, _CUT)  # [B, …], sentinels among them
        ids = parts.with_values(self._parts(parts.values)).merge_dims(1, 2)
        return self._cut(ids, length)

    def _parts(self, parts: Any) -> Any:
        """string[N], each a sentinel or a text without → ragged int32[N, …]."""
        parts = _strip(parts)
        if not self._ids:
            return self._pieces.encode(parts)
        numbers = "|".join(str(k) for k in range(len(self._ids)))
        is_sentinel = tf.strings.regex_full_match(parts, f"<extra_id_(?:{numbers})>")
        which = tf.strings.to_number(
            tf.strings.regex_replace(tf.boolean_mask(parts, is_sentinel), "[^0-9]", ""), tf.int32
        )
        single = tf.RaggedTensor.from_row_lengths(tf.gather(self._ids, which), tf.cast(is_sentinel, tf.int64))
        others = self._pieces.encode(tf.where(is_sentinel, "", parts))
        return tf.concat([others, single.with_row_splits_dtype(others.row_splits.dtype)], axis=1)

    def _cut(self, ids: Any, length: int) -> Any:
        """The first ids, a sentinel that stands last in any case, and EOS."""
        count = tf.cast(ids.row_lengths(), tf.int32)[:, None]
        dense = tf.pad(ids.to_tensor(0), [[0, 0], [0, length]])
        last = tf.gather(dense, tf.maximum(count - 1, 0), batch_dims=1)
        kept = (count > 0) & self._is_sentinel(last)  # bool[B, 1]
        extra = tf.cast(kept, tf.int32)
        body = tf.minimum(count - extra, length - 1 - extra)
        place = tf.range(length)[None]
        found = tf.where(place < body, dense[:, :length], 0)
        found = tf.where(kept & (place == body), last, found)
        return tf.where(place == body + extra, self._eos, found)

    def _is_sentinel(self, ids: Any) -> Any:
        if not self._ids:
            return tf.zeros_like(ids, tf.bool)
        return tf.reduce_any(ids[..., None] == tf.constant(self._ids, tf.int32), axis=-1)

    def decode(self, tokens: Any) -> Any:
        """int32[B, T] → string[B], as ``Vocabulary.decode``: up to EOS, sentinels as ``<extra_id_k>``."""
        length = tokens.shape[1]
        before_end = tf.cumsum(tf.cast(tokens == self._eos, tf.int32), axis=1) == 0
        is_sentinel = self._is_sentinel(tokens) & before_end
        is_piece = before_end & (tokens > 0) & (tokens < self._pieces.end) & ~is_sentinel
        # Runs of pieces and the sentinels between them, each row's numbered from 0: run 0, sentinel 1, run 1, …
        run = tf.cumsum(tf.cast(is_sentinel, tf.int32), axis=1)
        runs = tf.shape(tokens)[0] * (length + 1)
        group = tf.range(tf.shape(tokens)[0])[:, None] * (length + 1) + run
        pieces = tf.RaggedTensor.from_value_rowids(
            tf.boolean_mask(tokens, is_piece), tf.boolean_mask(group, is_piece), tf.cast(runs, group.dtype)
        )
        texts = tf.reshape(_strip(self._pieces.decode(pieces)), (-1, length + 1))
        names = tf.zeros_like(texts)
        if self._ids:
            which = tf.argmax(tf.boolean_mask(tokens, is_sentinel)[:, None] == tf.constant(self._ids, tf.int32), axis=1)
            named = tf.strings.join(["<extra_id_", tf.strings.as_string(which), ">"])
            filled = tf.scatter_nd(
                tf.boolean_mask(group, is_sentinel)[:, None], tf.range(1, tf.size(named) + 1), [runs]
            )
            names = tf.reshape(tf.gather(tf.concat([[""], named], 0), filled), (-1, length + 1))
        parts = tf.reshape(tf.stack([names, texts], axis=2), (-1, 2 * (length + 1)))
        return tf.strings.reduce_join(tf.ragged.boolean_mask(parts, parts != ""), axis=1, separator=" ")


def _strip(texts: Any) -> Any:
    return tf.strings.regex_replace(texts, f"^{_SPACE}+|{_SPACE}+$", "")
