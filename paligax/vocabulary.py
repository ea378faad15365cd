"""Text ↔ ids, without TensorFlow: sentencepiece files and plain bytes.

Both vocabularies put pad at 0 (also the decoder's start) and EOS at 1, and both count their sentinels down from the
top: ``<extra_id_0>`` is the last id, as in mT5's file, which carries its 100 sentinels inside, and as in T5's, whose
100 are added behind the file's pieces (``extra_ids=100``).
"""

import dataclasses
import functools
import hashlib
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_SENTINEL = re.compile(r"<extra_id_(\d+)>")


def _split_at_sentinels(text: str, sentinels: Mapping[str, int]) -> list[str | int]:
    """Cuts text at every ``<extra_id_k>`` that the vocabulary has; the spaces beside a sentinel belong to it."""
    parts: list[str | int] = []
    end = 0
    for match in _SENTINEL.finditer(text):
        if match.group() in sentinels:
            parts += [text[end : match.start()].strip(), sentinels[match.group()]]
            end = match.end()
    return [part for part in (*parts, text[end:].strip()) if part != ""]


def _trim(ids: Iterable[int], eos_id: int) -> list[int]:
    kept = []
    for i in ids:
        if int(i) == eos_id:
            break
        if int(i) != 0:
            kept.append(int(i))
    return kept


@dataclasses.dataclass(frozen=True)
class SentencePieceVocabulary:
    """A sentencepiece model file.

    Attributes:
      path: the ``.model`` file; opened on first use.
      extra_ids: sentinels to add behind the file's pieces: 0 where the file has them inside (mT5), 100 for T5's.
    """

    path: str
    extra_ids: int = 0

    pad_id = 0
    eos_id = 1

    @functools.cached_property
    def _processor(self):
        import sentencepiece

        if not pathlib.Path(self.path).is_file():
            raise FileNotFoundError(
                f"No sentencepiece model at {self.path!r}. Set SentencePieceVocabulary.path to the vocabulary's .model "
                "file (the embedded data set writes one when it is built: `paligax data build mini_webli`)."
            )
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.Load(str(self.path))
        except Exception as error:
            raise ValueError(f"{self.path!r} is not a sentencepiece model: {error}") from error
        if processor.eos_id() != self.eos_id or processor.pad_id() not in (self.pad_id, -1):
            raise ValueError(
                f"{self.path!r} has pad id {processor.pad_id()} and EOS id {processor.eos_id()}; paligax needs "
                "0 and 1, as T5's and mT5's files have them. Train it with pad_id=0, eos_id=1, unk_id=2."
            )
        return processor

    @functools.cached_property
    def sentinels(self) -> dict[str, int]:
        """``"<extra_id_k>"`` → id."""
        pieces = self._processor.GetPieceSize()
        if self.extra_ids:
            return {f"<extra_id_{k}>": pieces + self.extra_ids - 1 - k for k in range(self.extra_ids)}
        return self._inside

    @property
    def sentinels_inside(self) -> int:
        """How many sentinels the file itself has."""
        return len(self._inside)

    @functools.cached_property
    def _inside(self) -> dict[str, int]:
        found = {}
        while (piece := f"<extra_id_{len(found)}>") and (i := self._find(piece)) is not None:
            found[piece] = i
        return found

    def _find(self, piece: str) -> int | None:
        for name in ("▁" + piece, piece):
            i = self._processor.PieceToId(name)
            if i != self._processor.unk_id():
                return i
        return None

    @property
    def size(self) -> int:
        """Number of ids, added sentinels included."""
        return self._processor.GetPieceSize() + self.extra_ids

    @property
    def unk_id(self) -> int:
        return self._processor.unk_id()

    @property
    def num_sentinels(self) -> int:
        return len(self.sentinels)

    def sentinel(self, k: int) -> int:
        """Id of ``<extra_id_k>``. Raises IndexError where the vocabulary has fewer."""
        return _sentinel(self, k)

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without EOS; ``<extra_id_k>`` becomes its sentinel."""
        ids: list[int] = []
        for part in _split_at_sentinels(text, self.sentinels):
            ids += [part] if isinstance(part, int) else self._processor.EncodeAsIds(part)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids up to the first EOS, pads dropped, sentinels as ``<extra_id_k>``."""
        names = {i: name for name, i in self.sentinels.items()}
        parts: list[str] = []
        run: list[int] = []
        for i in _trim(ids, self.eos_id):
            if i in names:
                parts += [self._processor.DecodeIds(run), names[i]]
                run = []
            elif i < self._processor.GetPieceSize():
                run.append(i)
        parts.append(self._processor.DecodeIds(run))
        return " ".join(part.strip() for part in parts if part.strip())

    def files(self) -> list[str]:
        return [str(self.path)]

    def digest(self) -> str:
        """Hash of what decides the ids: the file's bytes and the number of added sentinels."""
        return hashlib.sha256(pathlib.Path(self.path).read_bytes() + str(self.extra_ids).encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        return {"class": "SentencePieceVocabulary", "path": str(self.path), "extra_ids": self.extra_ids}


@dataclasses.dataclass(frozen=True)
class ByteVocabulary:
    """UTF-8 bytes, as ByT5: 0 pad, 1 EOS, 2 unknown, then the 256 bytes, then the sentinels.

    Attributes:
      extra_ids: number of sentinels.
    """

    extra_ids: int = 100

    pad_id = 0
    eos_id = 1
    unk_id = 2

    @functools.cached_property
    def sentinels(self) -> dict[str, int]:
        """``"<extra_id_k>"`` → id."""
        return {f"<extra_id_{k}>": self.size - 1 - k for k in range(self.extra_ids)}

    @property
    def size(self) -> int:
        """Number of ids, sentinels included."""
        return 3 + 256 + self.extra_ids

    @property
    def num_sentinels(self) -> int:
        return self.extra_ids

    def sentinel(self, k: int) -> int:
        """Id of ``<extra_id_k>``. Raises IndexError where the vocabulary has fewer."""
        return _sentinel(self, k)

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without EOS; ``<extra_id_k>`` becomes its sentinel."""
        ids: list[int] = []
        for part in _split_at_sentinels(text, self.sentinels):
            ids += [part] if isinstance(part, int) else [byte + 3 for byte in part.encode()]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids up to the first EOS, pads dropped, sentinels as ``<extra_id_k>``; bad UTF-8 is dropped."""
        names = {i: name for name, i in self.sentinels.items()}
        parts: list[str] = []
        run = bytearray()
        for i in _trim(ids, self.eos_id):
            if i in names:
                parts += [run.decode(errors="ignore"), names[i]]
                run = bytearray()
            elif 3 <= i < 259:
                run.append(i - 3)
        parts.append(run.decode(errors="ignore"))
        return " ".join(part.strip() for part in parts if part.strip())

    def files(self) -> list[str]:
        return []

    def digest(self) -> str:
        return f"bytes-{self.extra_ids}"

    def to_dict(self) -> dict[str, Any]:
        return {"class": "ByteVocabulary", "extra_ids": self.extra_ids}


Vocabulary = SentencePieceVocabulary | ByteVocabulary
_CLASSES = {cls.__name__: cls for cls in (SentencePieceVocabulary, ByteVocabulary)}


def _sentinel(vocabulary: Vocabulary, k: int) -> int:
    if not 0 <= k < vocabulary.num_sentinels:
        raise IndexError(
            f"<extra_id_{k}> asked of a vocabulary with {vocabulary.num_sentinels} sentinels ({vocabulary}). "
            "Use a file that has them inside, or set extra_ids."
        )
    return vocabulary.sentinels[f"<extra_id_{k}>"]


def check_rows(vocabulary: Vocabulary, rows: int, say: Callable[[str], None] = print) -> None:
    """Checks a vocabulary against the rows of a model's embedding, before anything is trained on its ids.

    Args:
      vocabulary: the data's.
      rows: of the embedding and the output head; usually a few more than ids (mT5: 250,112 for 250,100).
      say: prints a line for the user, where so many rows are left over that they may belong to another file.

    Raises:
      ValueError: where an id has no row, or the sentinels don't count down from the last id: then span corruption would
        use the ids of words.
    """
    if vocabulary.size > rows:
        raise ValueError(
            f"{vocabulary} has {vocabulary.size:,} ids; the model has rows for {rows:,}. Set the language tower's "
            "vocab_size to at least as many, or name the file that the model was trained with."
        )
    last, k = vocabulary.size - 1, vocabulary.num_sentinels - 1
    if k >= 0 and (vocabulary.sentinel(0), vocabulary.sentinel(k)) != (last, last - k):
        raise ValueError(
            f"{vocabulary} has its {k + 1} sentinels at ids {vocabulary.sentinel(0):,} to {vocabulary.sentinel(k):,}; "
            f"expected {last:,} down to {last - k:,}, as in mT5's file and behind T5's."
        )
    if isinstance(vocabulary, SentencePieceVocabulary) and vocabulary.extra_ids and vocabulary.sentinels_inside:
        raise ValueError(
            f"{vocabulary} adds {vocabulary.extra_ids} sentinels behind a file that has {vocabulary.sentinels_inside} "
            "inside: set extra_ids=0 with it."
        )
    if rows - vocabulary.size >= _MANY_ROWS:
        say(
            f"The model has {rows:,} rows for the {vocabulary.size:,} ids of {vocabulary}: is that the file it was "
            "trained with?"
        )


_MANY_ROWS = 1024  # mT5 and T5 have rows up to the next multiple of 128


def from_dict(description: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary that ``to_dict`` described. Raises ValueError for a class that isn't known."""
    fields = dict(description)
    name = fields.pop("class", None)
    if name not in _CLASSES:
        raise ValueError(f"Vocabulary class {name!r} is not known; known: {', '.join(_CLASSES)}.")
    return _CLASSES[name](**fields)
