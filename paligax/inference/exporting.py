"""`paligax export`: a model in one of the forms that others open, written whole or not at all."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paligax import models
from paligax.inference import conversion, export, stablehlo, whole
from paligax.inference.conversion import Source
from paligax.interop import native

FORMATS = ("paligax", "stablehlo", "saved_model", "hf")


@dataclasses.dataclass(frozen=True)
class Told:
    """What the exporter adds to what the model's directory says of itself.

    Attributes:
      metrics: ``{task: {metric: number}}`` for the card; none: those that the run itself measured at this step.
      data: further lines on the data, for people.
      class_names: of a classifier's outputs.
      licence: of data and weights.
      name: title of the card; the directory's name by default.
    """

    metrics: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    class_names: Sequence[str] = ()
    licence: str = ""
    name: str = ""


def write(
    checkpoint: str | os.PathLike,
    to: str | os.PathLike,
    form: str,
    *,
    dtype: str | None = None,
    told: Told | None = None,
    max_length: int | None = None,
    platforms: Sequence[str] = stablehlo.PLATFORMS,
) -> list[pathlib.Path]:
    """Writes a model; no more than one of its arrays is in memory at a time (with "saved_model" all of them).

    Args:
      checkpoint: a run, one of its checkpoints, an export, or foreign weights.
      to: the directory, which must not exist or be empty.
      form:
        "paligax": safetensors, architecture, vocabulary and a card; ``paligax.load`` opens it.
        "stablehlo": the same, and compiled programs that jax runs without paligax, see
          :mod:`paligax.inference.stablehlo`.
        "saved_model": TensorFlow's, image bytes and prompts in, texts out, see :mod:`paligax.inference.saved_model`.
        "hf": transformers' directories, of a PaLI one a tower, see :func:`paligax.interop.convert.write`.
      dtype: float32 weights are stored as "bfloat16" or "float16"; None, "float32": as they are.
      told: for the card.
      max_length: of the compiled programs: most tokens of an answer; as trained by default.
      platforms: of the compiled programs.

    Returns:
      the paths written.

    Raises:
      FileExistsError: where the place holds something.
      FileNotFoundError, ValueError, OSError: as the readers and writers raise them.
    """
    if form not in FORMATS:
        raise ValueError(f"Format {form!r} is not known; known: {', '.join(FORMATS)}.")
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length={max_length}: the most tokens of an answer, at least 1.")
    to = whole.check_place(to)
    if form == "hf":
        return conversion.convert(checkpoint, to, "hf", dtype=None if dtype == "float32" else dtype)
    source = _told(conversion.open_source(checkpoint), told or Told())
    params = export.cast(source.params(), dtype)
    described = export.describe(
        source.leaves.module, params, source.vocabulary, feature_lengths=source.feature_lengths, **source.stated
    )
    write_one = {"paligax": _paligax, "stablehlo": _stablehlo, "saved_model": _saved_model}[form]
    name = (told.name if told else "") or to.name
    with whole.directory(to) as place:
        write_one(place, source, params, described, name, _Compiled(max_length, tuple(platforms), dtype))
    return [to]


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """What only compiled programs need, and the dtype of the weights."""

    max_length: int | None
    platforms: tuple[str, ...]
    dtype: str | None


def _told(source: Source, told: Told) -> Source:
    stated = dict(source.stated)
    stated["data"] = {**stated.get("data", {}), **told.data}
    for name in ("metrics", "class_names", "licence"):
        if getattr(told, name):
            stated[name] = getattr(told, name)
    return dataclasses.replace(source, stated=stated)


def _paligax(
    place: pathlib.Path, source: Source, params: Any, described: Mapping[str, Any], name: str, compiled: _Compiled
) -> None:
    export.write_weights(place / export.WEIGHTS, params)
    export.write_description(place, source.leaves.module, source.vocabulary, described, name, source.config)


def _stablehlo(
    place: pathlib.Path, source: Source, params: Any, described: Mapping[str, Any], name: str, compiled: _Compiled
) -> None:
    lowered = _lower(source, params, compiled)
    stablehlo.write(place, lowered, source.feature_lengths, compiled.max_length)
    export.write_weights(place / export.WEIGHTS, params)
    use = stablehlo.use(described, compiled.platforms, compiled.dtype)
    export.write_description(place, source.leaves.module, source.vocabulary, described, name, source.config, use)


def _saved_model(
    place: pathlib.Path, source: Source, params: Any, described: Mapping[str, Any], name: str, compiled: _Compiled
) -> None:
    lowered = _lower(source, params, compiled)
    if source.vocabulary is None:
        raise ValueError("The model has no vocabulary, which a SavedModel reads texts with: export a run of paligax.")
    from paligax.inference import card
    from paligax.inference.saved_model import writing

    arrays = {name: np.asarray(leaf) for name, leaf in native.flatten(params)}
    writing.write(place, lowered, arrays, source.vocabulary, source.feature_lengths)
    architecture = models.describe(source.leaves.module)
    text = card.card(name, described, architecture, writing.use(described))
    (place / export.CARD).write_text(text, encoding="utf-8")


def _lower(source: Source, params: Any, compiled: _Compiled) -> stablehlo.Lowered:
    return stablehlo.lower(
        source.leaves.module,
        params,
        source.feature_lengths,
        max_length=compiled.max_length,
        platforms=compiled.platforms,
    )
