"""How well pictures and their captions fit, by a dual encoder.

WebLI's pairs were scored by such a model, of which the paper says no more; here it is a SigLIP (Zhai et al. 2023), as
transformers saves it or as big_vision's .npz. Pictures are resized with the filter of training (`paligax.image`), which
is big_vision's too; transformers' own preprocessing resizes by cubics instead.
"""

import dataclasses
import functools
import math
import pathlib
import string
from collections.abc import Sequence
from typing import Any

import numpy as np

from paligax import image as image_lib
from paligax.data.ingest.reader import Record
from paligax.data.ingest.stage import Stage

_FILES = ("spiece.model", "tokenizer.model", "sentencepiece.model")
_TOKENIZER_CONFIG = "tokenizer_config.json"
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
SCALES = ("cosine", "logit", "probability")


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Text → ids as SigLIP was trained: lower case, ended by EOS, cut to a length or filled up to it.

    Attributes:
      path: the sentencepiece file.
      length: L.
      pad: the piece that fills up. SigLIP fills with EOS, "</s>", SigLIP 2 with "<pad>".
      eos: the piece that ends a text; it stays where a text is cut.
      keep_punctuation: SigLIP's texts have none of ASCII's, SigLIP 2's do.
    """

    path: str
    length: int
    pad: str = "</s>"
    eos: str = "</s>"
    keep_punctuation: bool = False

    @functools.cached_property
    def _processor(self):
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.Load(self.path)
        except Exception as error:
            raise ValueError(f"{self.path!r} is not a sentencepiece model: {error}") from error
        return processor

    def _id(self, piece: str) -> int:
        number = self._processor.PieceToId(piece)
        if number == self._processor.unk_id():
            raise ValueError(f"{self.path!r} has no piece {piece!r}: is it the model's own tokenizer?")
        return number

    @property
    def size(self) -> int:
        return self._processor.GetPieceSize()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """n texts → int32[n, L]."""
        ids = np.full((len(texts), self.length), self._id(self.pad), np.int32)
        for row, text in zip(ids, texts, strict=True):
            text = text.lower()
            text = text if self.keep_punctuation else text.translate(_NO_PUNCTUATION)
            own = self._processor.EncodeAsIds(" ".join(text.split()))[: self.length - 1]
            row[: len(own) + 1] = [*own, self._id(self.eos)]
        return ids


def tokenizer_beside(checkpoint: str, length: int, path: str = "") -> Tokenizer:
    """The tokenizer of a checkpoint's directory: its sentencepiece file, and what tokenizer_config.json says of it.

    Args:
      checkpoint: a directory, or a file in one.
      length: of the texts that the model takes.
      path: of the sentencepiece file, where it lies elsewhere.

    Raises:
      FileNotFoundError: where there is none.
      ValueError: where tokenizer_config.json is no such file.
    """
    from paligax.interop import hf

    folder = pathlib.Path(checkpoint).expanduser()
    folder = folder if folder.is_dir() else folder.parent
    file = pathlib.Path(path) if path else next((folder / n for n in _FILES if (folder / n).is_file()), None)
    if file is None or not file.is_file():
        raise FileNotFoundError(
            f"No sentencepiece file {path!r}."
            if path
            else f"{str(folder)!r} has none of {', '.join(_FILES)}: name the model's sentencepiece file as `tokenizer`."
        )
    config = folder / _TOKENIZER_CONFIG
    said = hf.read_config(config) if config.is_file() else {}
    is_first = said.get("tokenizer_class", "SiglipTokenizer").startswith("SiglipTokenizer")
    pieces = {name: _piece(said.get(f"{name}_token")) for name in ("pad", "eos")}
    stated = {name: piece for name, piece in pieces.items() if piece}
    return Tokenizer(str(file), length, keep_punctuation=not is_first, **stated)


def _piece(said: Any) -> str:
    """A special token, which transformers writes as a text or as an object with it."""
    said = said.get("content") if isinstance(said, dict) else said
    return said if isinstance(said, str) else ""


class DualEncoder:
    """A SigLIP with its tokenizer, compiled for batches of one size.

    Args:
      checkpoint: what ``paligax.load`` opens.
      tokenizer: the sentencepiece file; "" for the one beside the checkpoint.
      batch_size: pictures or texts encoded at a time; fewer are filled up, so that nothing is compiled twice.

    Raises what ``paligax.load`` and ``tokenizer_beside`` raise, and ValueError where the model has no two towers, or
    fewer rows than the tokenizer has ids.
    """

    def __init__(self, checkpoint: str, tokenizer: str = "", batch_size: int = 64):
        import jax

        import paligax
        from paligax import models

        loaded = paligax.load(checkpoint)
        module, self._params = loaded.module, loaded.params
        if not isinstance(module, models.SigLIP):
            raise ValueError(
                f"{checkpoint!r} holds a {type(module).__name__}; pictures and captions are compared by a SigLIP."
            )
        self._batch_size = batch_size
        self._tokenizer = tokenizer_beside(checkpoint, module.text.max_length, tokenizer)
        if self._tokenizer.size > module.text.vocab_size:
            raise ValueError(
                f"{self._tokenizer.path!r} has {self._tokenizer.size:,} ids, {checkpoint!r} rows for "
                f"{module.text.vocab_size:,}: is it the model's own tokenizer?"
            )
        patches = self._params["vision"]["pos_embedding"].shape[1]
        self.resolution = math.isqrt(patches) * module.vision.patch_size
        self._scale, self._bias = (float(self._params[name]) for name in ("logit_scale", "logit_bias"))
        self._encode = {
            method: jax.jit(functools.partial(_apply, module, method)) for method in ("encode_image", "encode_text")
        }

    def images(self, images: np.ndarray) -> np.ndarray:
        """uint8[n, S, S, 3], S = ``resolution`` → unit vectors float32[n, E]."""
        return self._batched("encode_image", images)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """n texts → unit vectors float32[n, E]."""
        return self._batched("encode_text", self._tokenizer(texts))

    def _batched(self, method: str, rows: np.ndarray) -> np.ndarray:
        done = []
        for start in range(0, len(rows), self._batch_size):
            some = rows[start : start + self._batch_size]
            missing = [(0, self._batch_size - len(some))] + [(0, 0)] * (rows.ndim - 1)
            vectors = self._encode[method](self._params, np.pad(some, missing))
            done.append(np.asarray(vectors)[: len(some)])
        return np.concatenate(done)

    def logits(self, cosines: np.ndarray) -> np.ndarray:
        """What the sigmoid is taken of: a pair's chance, as the model was trained to say it."""
        return cosines * np.exp(self._scale) + self._bias


def _apply(module: Any, method: str, params: Any, rows: Any) -> Any:
    return module.apply({"params": params}, rows, method=method)


@functools.lru_cache(maxsize=2)
def _encoder(checkpoint: str, tokenizer: str, batch_size: int) -> DualEncoder:
    return DualEncoder(checkpoint, tokenizer, batch_size)


@dataclasses.dataclass
class ScorePairs(Stage):
    """Writes a record's ``score``: that of the caption that fits its picture best.

    Records without a picture or a caption keep the score that they have. With ``drop_below``, captions that fit worse
    are left out of the record; removed are records with none left ("no caption fits the image"), and those whose
    picture cannot be decoded ("broken image").

    Attributes:
      checkpoint: what ``paligax.load`` opens as a SigLIP.
      tokenizer: its sentencepiece file; "" for the one that lies beside it.
      scale: "cosine" of the two embeddings, the "logit" of the pair's chance, or that chance, a "probability".
      drop_below: the least score of a caption that stays, None: all stay.
    """

    checkpoint: str
    tokenizer: str = ""
    scale: str = "cosine"
    drop_below: float | None = None
    batch_size: int = 64

    def __post_init__(self):
        if self.scale not in SCALES:
            raise ValueError(f"scale = {self.scale!r}; known: {', '.join(SCALES)}.")

    def setup(self) -> None:
        _encoder(self.checkpoint, self.tokenizer, self.batch_size)

    def apply(self, records: list[Record]) -> list[str]:
        encoder = _encoder(self.checkpoint, self.tokenizer, self.batch_size)
        reasons = [""] * len(records)
        rows, images = [], []
        for i, record in enumerate(records):
            if record["image"] and len(record["alt_text/text"]):
                try:
                    images.append(image_lib.decode_and_resize(record["image"], encoder.resolution))
                    rows.append(i)
                except (OSError, ValueError, SyntaxError):
                    reasons[i] = "broken image"
        if not rows:
            return reasons
        texts = [text for i in rows for text in records[i]["alt_text/text"]]
        owner = np.repeat(np.arange(len(rows)), [len(records[i]["alt_text/text"]) for i in rows])
        cosines = np.sum(encoder.images(np.stack(images))[owner] * encoder.texts(texts), axis=1)
        scores = self._scaled(encoder, cosines)
        for k, i in enumerate(rows):
            reasons[i] = self._note(records[i], scores[owner == k])
        return reasons

    def _scaled(self, encoder: DualEncoder, cosines: np.ndarray) -> np.ndarray:
        if self.scale == "cosine":
            return cosines
        logits = encoder.logits(cosines)
        return logits if self.scale == "logit" else 1 / (1 + np.exp(-logits))

    def _note(self, record: Record, scores: np.ndarray) -> str:
        record["score"] = float(scores.max())
        if self.drop_below is None:
            return ""
        fitting = np.flatnonzero(scores >= self.drop_below)
        for key in ("alt_text/lang", "alt_text/text"):
            record[key] = [record[key][i] for i in fitting]
        return "" if len(fitting) else "no caption fits the image"
