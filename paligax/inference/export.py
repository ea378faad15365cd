"""The export directory: a trained model to be taken away, readable without gin, TensorFlow or what trained it.

model.safetensors    parameters, named by their place in the tree
architecture.json    the model's class and constructor arguments
vocabulary.model     the sentencepiece file (none with bytes)
paligax.json         format version, vocabulary, resolution, lengths, image filter, metrics, data
README.md            a card for people
config.gin           the configuration of the run, where the model comes from one
"""

import datetime
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paligax import models
from paligax.inference import card, whole
from paligax.interop import native
from paligax.interop.opened import Lazy

FORMAT_VERSION = 1
WEIGHTS, ARCHITECTURE, DESCRIPTION, VOCABULARY, CARD, CONFIG = (
    "model.safetensors",
    "architecture.json",
    "paligax.json",
    "vocabulary.model",
    "README.md",
    "config.gin",
)
IMAGE_FILTER = "triangle"  # paligax.image.resize: antialiased bilinear


def export(
    path: str | os.PathLike,
    module: Any,
    params: Mapping[str, Any],
    vocabulary: Any,
    *,
    feature_lengths: Mapping[str, int],
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    data: Mapping[str, Any] | None = None,
    prompts: Mapping[str, str] | None = None,
    class_names: Sequence[str] = (),
    licence: str = "",
    name: str = "",
    dtype: str | None = None,
    config: str = "",
) -> pathlib.Path:
    """Writes an export directory; it appears whole or not at all, and replaces an earlier export at its place.

    Args:
      path: the directory.
      module: a model of paligax.models.
      params: its parameters, a plain nested dict of arrays, or of what ``numpy.asarray`` reads one by one.
      vocabulary: of paligax.vocabulary; None for a model without text of its own.
      feature_lengths: ``{"image": px, "inputs": L, "targets": T}`` (a classifier's: ``{"image": px, "labels": C}``; a
        tower's: what ``models.lengths_of`` names), as trained.
      metrics: ``{task: {metric: value}}``.
      data: what it was trained on, for people: ``{"mixture": …, "examples": …}``.
      prompts: ``{task: an example prompt}``, so that the reader knows what to ask.
      class_names: of a classifier's outputs.
      licence: note on licences of data and weights.
      name: title of the card; the directory's name by default.
      dtype: stores float32 parameters as this ("bfloat16" halves the file); None stores them as they are.
      config: resolved gin text of the run that trained it.

    Returns:
      the directory's path.

    Raises:
      FileExistsError: where the place holds something that is no export.
      ValueError: where params don't fit the module, or feature_lengths lack something.
    """
    path = pathlib.Path(path).expanduser()
    described = describe(
        module,
        params,
        vocabulary,
        feature_lengths=feature_lengths,
        metrics=metrics,
        data=data,
        prompts=prompts,
        class_names=class_names,
        licence=licence,
    )
    _check_place(path)
    with whole.directory(path) as partial:
        write_weights(partial / WEIGHTS, params, dtype)
        write_description(partial, module, vocabulary, described, name or path.name, config)
    return path


def describe(
    module: Any,
    params: Mapping[str, Any],
    vocabulary: Any,
    *,
    feature_lengths: Mapping[str, int],
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    data: Mapping[str, Any] | None = None,
    prompts: Mapping[str, str] | None = None,
    class_names: Sequence[str] = (),
    licence: str = "",
) -> dict[str, Any]:
    """What paligax.json says, of the arguments of :func:`export`.

    Raises:
      ValueError: where params don't fit the module, or feature_lengths lack something.
    """
    check_lengths(module, feature_lengths)
    native.check(params, models.abstract_params(module, feature_lengths), "The parameters to be exported")
    return {
        "format": "paligax",
        "format_version": FORMAT_VERSION,
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "parameters": sum(int(np.prod(leaf.shape)) for _, leaf in native.flatten(params)),
        "feature_lengths": dict(feature_lengths),
        "image_filter": IMAGE_FILTER,
        "vocabulary": _described_vocabulary(vocabulary),
        "class_names": list(class_names),
        "metrics": {task: dict(values) for task, values in (metrics or {}).items()},
        "data": dict(data or {}),
        "prompts": dict(prompts or {}),
        "licence": licence,
    }


def write_weights(path: pathlib.Path, params: Mapping[str, Any], dtype: str | None = None) -> None:
    """Writes model.safetensors, a leaf at a time; float32 leaves as ``dtype``, where one is given."""
    native.save(path, cast(params, dtype), {"paligax_format_version": str(FORMAT_VERSION)})


def write_description(
    place: pathlib.Path,
    module: Any,
    vocabulary: Any,
    described: Mapping[str, Any],
    name: str,
    config: str = "",
    use: str = "",
) -> None:
    """Writes all files of an export but the weights; ``use``: see :func:`paligax.inference.card.card`."""
    architecture = models.describe(module)
    _write_json(place / ARCHITECTURE, architecture)
    for file in vocabulary.files() if vocabulary is not None else ():
        shutil.copyfile(file, place / VOCABULARY)
    if config:
        (place / CONFIG).write_text(config, encoding="utf-8")
    (place / CARD).write_text(card.card(name, described, architecture, use), encoding="utf-8")
    _write_json(place / DESCRIPTION, described)


def check_lengths(module: Any, feature_lengths: Mapping[str, int]) -> None:
    """Raises ValueError where a length that the model needs is missing."""
    wanted = models.lengths_of(module)
    if missing := [name for name in wanted if not feature_lengths.get(name)]:
        raise ValueError(
            f"feature_lengths {dict(feature_lengths)} lack {', '.join(missing)}; wanted: {', '.join(wanted)}."
        )


def _check_place(path: pathlib.Path) -> None:
    if path.exists() and not (path / DESCRIPTION).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(
            f"{str(path)!r} exists and is no export of paligax (it has no {DESCRIPTION}): choose another path."
        )


def cast(params: Mapping[str, Any], dtype: str | None) -> dict[str, Any]:
    """Parameters whose float32 leaves are read as another dtype, one by one; None leaves all as they are."""
    if dtype is None:
        return dict(params)
    target = float_dtype(dtype)

    def stored(leaf: Any) -> Any:
        return Lazy(leaf.shape, target, lambda: np.asarray(leaf).astype(target)) if leaf.dtype == np.float32 else leaf

    return native.unflatten({name: stored(leaf) for name, leaf in native.flatten(params)})


def float_dtype(name: str) -> np.dtype:
    """Raises ValueError where weights can't be stored as this."""
    if name not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"dtype {name!r} is not known; choose float32, bfloat16 or float16, or None to store as is.")
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def _described_vocabulary(vocabulary: Any) -> dict[str, Any] | None:
    if vocabulary is None:
        return None
    described = dict(vocabulary.to_dict())
    if "path" in described:
        described["path"] = VOCABULARY  # beside the weights, wherever the directory goes
    return described


def _write_json(path: pathlib.Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
