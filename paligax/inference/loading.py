"""Opening a trained model for use: an export directory, or a run's checkpoint."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from paligax import models
from paligax import vocabulary as vocabulary_lib
from paligax.inference import card, export, likelihood, rows
from paligax.inference.generation import Decoding, generate
from paligax.interop import native
from paligax.interop.foreign import KINDS, is_foreign, open_foreign

# Prompts are decoded in batches of these sizes, so that few shapes are compiled however many are asked.
BATCH_SIZES = (1, 8, 32)


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model ready for use.

    Attributes:
      module: Linen module: PaLI, Classifier, or of a foreign model MT5 or ViT.
      params: its parameters, nested dict of jax arrays.
      vocabulary: text ↔ ids; None with a classifier or a foreign model.
      feature_lengths: ``{"image": px, "inputs": L, "targets": T}``, as trained; empty with a foreign model.
      description: what paligax.json says (metrics, data, prompts, …); of a checkpoint {"data": …} of its configuration.
    """

    module: Any
    params: dict[str, Any]
    vocabulary: Any
    feature_lengths: Mapping[str, int]
    description: Mapping[str, Any]

    def generate(
        self,
        images: np.ndarray | Sequence[np.ndarray | None] | None,
        prompts: Sequence[str],
        max_length: int | None = None,
        **options: Any,
    ) -> list[str] | list[list[str]]:
        """Answers prompts about images, greedily unless the options say otherwise.

        Args:
          images: uint8[B, H, W, 3], or B arrays uint8[H, W, 3] of any sizes, which are resized as in training (the
            aspect ratio is not kept); or the bytes of a JPEG or PNG. None, for all or for one, means text only.
          prompts: B texts as in training, e.g. "Answer in EN: What is this? <extra_id_0>": ``<extra_id_k>`` becomes the
            sentinel, EOS is appended. Prompts that are too long lose their last words, but not a sentinel at their end.
          max_length: most tokens of an answer; the trained length by default.
          options: of :class:`paligax.inference.generation.Decoding`: ``num_beams=4`` searches, ``temperature=0.7``
            draws. With equal seeds an image and its prompt get the same draws, whatever is asked beside them.

        Returns:
          B texts; with ``num_samples=n`` above 1, B lists of n texts.

        Raises:
          ValueError: where numbers, shapes or dtypes don't fit, an option isn't known, or the model is a classifier.
        """
        how = Decoding.of(options)
        asked = self._rows(images, prompts)
        length = max_length or self.feature_lengths["targets"]
        answers: list[Any] = []
        for example, active in self._batches(asked):
            tokens = np.asarray(generate(self.module, self.params, example, how, max_length=length, active=active))
            answers += [[self.vocabulary.decode(sample) for sample in row] for row in tokens[active]]
        return answers if how.num_samples > 1 else [answer for (answer,) in answers]

    def score(
        self,
        images: np.ndarray | Sequence[np.ndarray | None] | None,
        prompts: Sequence[str],
        answers: Sequence[str],
    ) -> np.ndarray:
        """How probable answers are, e.g. the names of classes: the encoder runs once a row, however many they are.

        Args:
          images: as of :meth:`generate`.
          prompts: B texts, as there.
          answers: C texts, each scored for every row, with EOS behind it.

        Returns:
          float32[B, C]: natural logarithms of the probabilities.

        Raises:
          ValueError: as there, or where there are no answers.
        """
        if isinstance(answers, str) or not len(answers):
            raise ValueError(f"answers must be a list of texts, at least one; got {answers!r}.")
        asked = self._rows(images, prompts)
        ids = [[*self.vocabulary.encode(answer), self.vocabulary.eos_id] for answer in answers]
        candidates = np.zeros((len(ids), max(map(len, ids))), np.int32)
        for row, own in zip(candidates, ids, strict=True):
            row[: len(own)] = own
        scores = np.zeros((0, len(ids)), np.float32)
        for example, active in self._batches(asked):
            found = likelihood.of_candidates(self.module, self.params, example, candidates)
            scores = np.concatenate([scores, np.asarray(found.total)[active]])
        return scores

    def _rows(self, images: Any, prompts: Any) -> list[rows.Row]:
        """What is asked, checked."""
        if self.vocabulary is None:
            raise ValueError(f"{type(self.module).__name__} generates no text; module.apply gives its logits.")
        if isinstance(prompts, str):
            raise ValueError(f"prompts must be a list of texts, one an image; got the one text {prompts!r}.")
        prompts = list(prompts)
        pictures = [None] * len(prompts) if images is None else list(images)
        if len(pictures) != len(prompts):
            raise ValueError(f"Got {len(pictures)} images and {len(prompts)} prompts; give one prompt each image.")
        side, length = self.feature_lengths["image"], self.feature_lengths["inputs"]
        return [
            (
                None if picture is None else rows.picture(picture, side, f"Image {i}"),
                rows.prompt_ids(self.vocabulary, prompt, length),
            )
            for i, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True))
        ]

    def _batches(self, asked: Sequence[rows.Row]) -> Iterator[tuple[tuple[np.ndarray, ...], np.ndarray]]:
        """((image, inputs, image_mask), bool[B] of the rows that are there) of a few sizes."""
        begin = 0
        while begin < len(asked):
            size = next((size for size in BATCH_SIZES if size >= len(asked) - begin), BATCH_SIZES[-1])
            yield rows.stack(asked[begin : begin + size], size, self.feature_lengths)
            begin += size


def load(path: str | os.PathLike) -> Loaded:
    """Opens an export directory, a run's directory or one of its checkpoints, or foreign weights.

    Foreign are: a directory that transformers saved (mT5, umT5, T5 v1.1, SigLIP, ViT), a big_vision .npz
    ("FILE.npz:img" for one of its towers), a T5X checkpoint, a flax .msgpack. They have no vocabulary; their
    ``module.apply({"params": params}, …)`` takes int32 ids (mT5: inputs, targets → float32 logits [B, T, V]), images as
    floats in [-1, 1] or uint8 (ViT: image → tokens [B, P, D]), or both (SigLIP: image, text → logits [B, C]).

    Raises:
      FileNotFoundError: where the directory or a file in it is missing.
      ValueError: where a file is cut short, of an unknown format version, or doesn't fit the others; of foreign weights
        all leaves that are missing, misshapen or unexpected are listed.
      ImportError: for a pickle of torch where torch isn't installed.
    """
    if is_foreign(path):
        foreign = open_foreign(path)
        stated = {"from": foreign.place, "unused": list(foreign.unused)}
        return Loaded(foreign.module, foreign.params(), None, {}, stated)
    path = pathlib.Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"No directory or file {str(path)!r}. paligax.load opens what `paligax export` wrote, a run, or {KINDS}."
        )
    if not path.is_dir():
        raise ValueError(
            f"{str(path)!r} is a file; paligax.load opens a directory: the one that `paligax export` wrote; or {KINDS}."
        )
    if not (path / export.DESCRIPTION).is_file():
        _refuse_other_formats(path)
        return _load_checkpoint(path)
    described = read_description(path)
    module = models.build(_read_json(path / export.ARCHITECTURE))
    params = native.load(path / export.WEIGHTS)
    vocabulary = described_vocabulary(described, path)
    return _assemble(module, params, vocabulary, described["feature_lengths"], described, str(path / export.WEIGHTS))


def _refuse_other_formats(path: pathlib.Path) -> None:
    """Raises ValueError for what `paligax export` wrote for somebody else to open."""
    if (path / "saved_model.pb").is_file():
        raise ValueError(
            f"{str(path)!r} is a TensorFlow SavedModel: tf.saved_model.load opens it. For paligax.load export with "
            "--format=paligax or --format=stablehlo."
        )
    if towers := [name for name in ("language", "vision") if is_foreign(path / name)]:
        raise ValueError(
            f"{str(path)!r} holds the towers of a PaLI in another format: open {str(path / towers[0])!r}, or export "
            "with --format=paligax."
        )


def read_description(path: pathlib.Path) -> dict[str, Any]:
    """What an export says of itself. Raises ValueError where it is of another format, or would be used otherwise."""
    described = _read_json(path / export.DESCRIPTION)
    version = described.get("format_version")
    if described.get("format") != "paligax" or version != export.FORMAT_VERSION:
        raise ValueError(
            f"{str(path / export.DESCRIPTION)!r} says format {described.get('format')!r}, version {version!r}; this "
            f"paligax reads format 'paligax', version {export.FORMAT_VERSION}. Open it with the paligax that wrote it."
        )
    if missing := [key for key in ("feature_lengths", "vocabulary", "image_filter") if key not in described]:
        raise ValueError(f"{str(path / export.DESCRIPTION)!r} lacks {', '.join(missing)}: export again.")
    if described["image_filter"] != export.IMAGE_FILTER:
        raise ValueError(
            f"The model was trained with image filter {described['image_filter']!r}; this paligax resizes with "
            f"{export.IMAGE_FILTER!r}, which would change what it sees."
        )
    return described


def described_vocabulary(described: Mapping[str, Any], path: pathlib.Path) -> Any:
    """The vocabulary of an export, None where it has none."""
    return None if described["vocabulary"] is None else _vocabulary(described["vocabulary"], path)


def _assemble(
    module: Any, params: Mapping[str, Any], vocabulary: Any, lengths: Mapping[str, int], described: Mapping, where: str
) -> Loaded:
    export.check_lengths(module, lengths)
    native.check(params, models.abstract_params(module, lengths), where)
    return Loaded(module, jax.tree.map(native.on_device, dict(params)), vocabulary, dict(lengths), described)


def _vocabulary(described: Mapping[str, Any], directory: pathlib.Path) -> Any:
    described = dict(described)
    if "path" in described:
        described["path"] = str(directory / described["path"])
    vocabulary = vocabulary_lib.from_dict(described)
    if missing := [file for file in vocabulary.files() if not pathlib.Path(file).is_file()]:
        raise FileNotFoundError(f"No vocabulary file {missing[0]!r}. Was the export copied completely?")
    return vocabulary


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"No file {str(path)!r}. Was the export copied completely?")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no valid JSON ({error}): copy it again.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{str(path)!r} holds no JSON object: copy it again.")
    return value


def _load_checkpoint(path: pathlib.Path) -> Loaded:
    """A run's directory, its "checkpoints", or one step: the parameters alone, without gin."""
    from paligax.training import checkpoints

    try:
        params, described = checkpoints.restore_params(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{str(path)!r} is neither an export (it has no {export.DESCRIPTION}) nor a run with checkpoints: {error}"
        ) from error
    module = models.build(described.architecture)
    # The checkpoint's own grid of positions says what resolution it was trained at.
    patches = params["vision"]["pos_embedding"].shape[1]
    lengths = described.feature_lengths | {"image": math.isqrt(patches) * module.vision.patch_size}
    vocabulary = vocabulary_lib.from_dict(described.vocabulary) if described.vocabulary else None
    return _assemble(module, params, vocabulary, lengths, {"data": card.trained_on(described.config)}, str(path))
