"""The export directory: a trained model to be taken away, readable without gin, TensorFlow or what trained it.

model.safetensors    parameters, named by their place in the tree
architecture.json    the model's class and constructor arguments
vocabulary.model     the sentencepiece file (none with bytes)
paligax.json         format version, vocabulary, resolution, lengths, image filter, metrics, data
README.md            a card for people
"""

import datetime
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paligax import models
from paligax.interop import native
from paligax.interop.opened import Lazy

FORMAT_VERSION = 1
WEIGHTS, ARCHITECTURE, DESCRIPTION, VOCABULARY, CARD = (
    "model.safetensors",
    "architecture.json",
    "paligax.json",
    "vocabulary.model",
    "README.md",
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

    Returns:
      the directory's path.

    Raises:
      FileExistsError: where the place holds something that is no export.
      ValueError: where params don't fit the module, or feature_lengths lack something.
    """
    path = pathlib.Path(path).expanduser()
    check_lengths(module, feature_lengths)
    architecture = models.describe(module)
    native.check(params, models.abstract_params(module, feature_lengths), "The parameters to be exported")
    _check_place(path)
    stored = _cast(params, dtype)
    described = {
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
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        native.save(partial / WEIGHTS, stored, {"paligax_format_version": str(FORMAT_VERSION)})
        _write_json(partial / ARCHITECTURE, architecture)
        for file in vocabulary.files() if vocabulary is not None else ():
            shutil.copyfile(file, partial / VOCABULARY)
        (partial / CARD).write_text(card(name or path.name, described, architecture), encoding="utf-8")
        _write_json(partial / DESCRIPTION, described)
        partial.chmod(0o755)
        if path.is_dir():
            shutil.rmtree(path)
        partial.rename(path)
    except OSError as error:
        raise OSError(f"The export to {str(path)!r} could not be written: {error}. Nothing is left of it.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


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


def _cast(params: Mapping[str, Any], dtype: str | None) -> dict[str, Any]:
    if dtype is None:
        return dict(params)
    target = float_dtype(dtype)

    def cast(leaf: Any) -> Any:
        return Lazy(leaf.shape, target, lambda: np.asarray(leaf).astype(target)) if leaf.dtype == np.float32 else leaf

    return native.unflatten({name: cast(leaf) for name, leaf in native.flatten(params)})


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


_KINDS = {
    "Classifier": "Image classifier",
    "MT5": "Text in, text out",
    "PaLI": "Image and text in, text out",
    "SigLIP": "Scores of images with texts",
    "TextTower": "Text tower",
    "ViT": "Image tower",
}
_ARGUMENTS = {
    "Classifier": "image)  # uint8 [B, H, W, 3] → logits [B, C]",
    "MT5": "inputs, targets)  # int32 [B, L], [B, T] → logits [B, T, V]",
    "PaLI": "image, inputs, targets)  # uint8 [B, H, W, 3], int32 [B, L], [B, T] → logits [B, T, V]",
    "SigLIP": "image, text)  # uint8 [B, H, W, 3], int32 [C, L] → logits [B, C]",
    "TextTower": "text)  # int32 [B, L] → [B, E]",
    "ViT": "image)  # uint8 [B, H, W, 3] → tokens [B, P, D]",
}


def card(name: str, described: Mapping[str, Any], architecture: Mapping[str, Any]) -> str:
    """The README.md of an export: what the model is, what it learned from, what it scored, how it is used."""
    side = described["feature_lengths"].get("image")
    parts = [f"# {name}", ""]
    sized = f", images of {side} × {side} px" if side else ""
    parts.append(
        f"{_KINDS[architecture['class']]}: `{architecture['class']}`, {described['parameters']:,} parameters{sized}. "
        f"Exported with paligax on {described['created']}."
    )
    parts += ["", "## Trained on", ""]
    parts += [f"- {key}: {value}" for key, value in described["data"].items()] or ["Not stated."]
    parts += ["", "## Use", "", "```python", "import numpy as np", "import paligax", ""]
    parts.append('model = paligax.load("PATH/OF/THIS/DIRECTORY")')
    if described["vocabulary"]:
        prompt = next(iter(described["prompts"].values()), "Answer in EN: What is this? <extra_id_0>")
        parts += [
            "image = np.zeros((480, 640, 3), np.uint8)  # any size",
            f"model.generate([image], [{prompt!r}])",
            "```",
        ]
        parts.append("")
        parts.append("`<extra_id_0>` in a prompt is the sentinel that the answer stands for; prompts as in training:")
        parts += [""] + [f"- {task}: `{prompt}`" for task, prompt in described["prompts"].items()]
    else:
        taken = _ARGUMENTS[architecture["class"]]
        parts += [f"model.module.apply({{'params': model.params}}, {taken}", "```"]
    parts += ["", "## Held-out results", ""]
    if described["metrics"]:
        parts += ["`blind` is the control: the same model with the images exchanged among the examples.", ""]
        parts += ["| Task | Metric | Value |", "|---|---|---|"]
        parts += [
            f"| {task} | {metric} | {value:.4f} |"
            for task, values in described["metrics"].items()
            for metric, value in values.items()
        ]
    else:
        parts.append("Not evaluated.")
    parts += ["", "## Licence", "", described["licence"] or "Not stated: ask who exported it."]
    return "\n".join(parts) + "\n"
