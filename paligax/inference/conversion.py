"""`paligax convert`: whatever paligax opens, written as what others (or it) open, a leaf at a time."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from paligax import models
from paligax import vocabulary as vocabulary_lib
from paligax.inference import card, export, loading
from paligax.interop import convert as foreign_formats
from paligax.interop import native
from paligax.interop.convert import Leaves
from paligax.interop.foreign import is_foreign, open_foreign
from paligax.interop.opened import Lazy
from paligax.interop.weight_files import Tensors

FORMATS = ("paligax", *foreign_formats.FORMATS)
_CARRIED = ("metrics", "data", "prompts", "class_names", "licence")


@dataclasses.dataclass(frozen=True)
class Source:
    """A model to be converted, opened and not yet read.

    Attributes:
      leaves: the model.
      vocabulary: of paligax.vocabulary, or None.
      feature_lengths: as trained; of foreign weights what their shapes say.
      stated: what an export says of metrics, data, prompts, class names and licence; a checkpoint of data and metrics.
      config: the resolved gin text of the run; "" where it isn't known.
    """

    leaves: Leaves
    vocabulary: Any = None
    feature_lengths: Mapping[str, int] = dataclasses.field(default_factory=dict)
    stated: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    config: str = ""

    def params(self) -> dict[str, Any]:
        """Nested dict of leaves that are read when ``numpy.asarray`` asks."""
        return native.unflatten(
            {
                name: Lazy(shape.shape, shape.dtype, lambda name=name: np.asarray(self.leaves.read(name)))
                for name, shape in self.leaves.shapes.items()
            }
        )


def convert(
    source: str | os.PathLike, to: str | os.PathLike, form: str, part: str = "", dtype: str | None = None
) -> list[pathlib.Path]:
    """Writes the model at ``source`` in another format.

    Args:
      source: anything that ``paligax.load`` opens.
      to: the directory to be written; with "big_vision" of one tower it may be an .npz file.
      form: "paligax" (safetensors, architecture and vocabulary), "hf", "big_vision", "t5x": see
        ``paligax.interop.convert.write``.
      part: writes one submodule only: "vision" or "language" of a PaLI, "vision" or "text" of a SigLIP.
      dtype: stores float32 leaves as this ("bfloat16" halves the file); None stores them as they are.

    Returns:
      the paths written.

    Raises:
      FileNotFoundError, FileExistsError, ValueError: as ``paligax.load`` and the writers raise them.
    """
    if form not in FORMATS:
        raise ValueError(f"Format {form!r} is not known; known: {', '.join(FORMATS)}.")
    found = open_source(source)
    if part:
        module = getattr(found.leaves.module, part, None)
        parts = [name for name in ("vision", "language", "text") if hasattr(found.leaves.module, name)]
        if part not in parts:
            raise ValueError(f"{type(found.leaves.module).__name__} has no part {part!r}; it has {', '.join(parts)}.")
        lengths = {n: v for n, v in found.feature_lengths.items() if n in models.lengths_of(module)}
        found = Source(found.leaves.below(module, part), feature_lengths=lengths)
    leaves = _cast(found.leaves, dtype)
    if form != "paligax":
        return foreign_formats.write(leaves, to, form)
    params = dataclasses.replace(found, leaves=leaves).params()
    written = export.export(
        to,
        leaves.module,
        params,
        found.vocabulary,
        feature_lengths=found.feature_lengths,
        config=found.config,
        **found.stated,
    )
    return [written]


def open_source(path: str | os.PathLike) -> Source:
    """Opens a model without reading its leaves; see :func:`paligax.load` for what it may be."""
    if is_foreign(path):
        foreign = open_foreign(path)
        return Source(
            Leaves(foreign.module, foreign.shapes, foreign.array),
            feature_lengths=_lengths(foreign.module, foreign.shapes),
        )
    place = pathlib.Path(path).expanduser()
    if (place / export.DESCRIPTION).is_file():
        described = loading.read_description(place)
        tensors = Tensors(place / export.WEIGHTS)
        module = models.build(json.loads((place / export.ARCHITECTURE).read_text(encoding="utf-8")))
        vocabulary = loading.described_vocabulary(described, place)
        stated = {name: described[name] for name in _CARRIED if name in described}
        return Source(
            Leaves(module, tensors, lambda name: np.asarray(tensors[name])),
            vocabulary,
            described["feature_lengths"],
            stated,
            (place / export.CONFIG).read_text(encoding="utf-8") if (place / export.CONFIG).is_file() else "",
        )
    from paligax.training import checkpoints

    directory, description = checkpoints.describe(place)
    shapes = checkpoints.param_shapes(directory)

    def read(name: str) -> np.ndarray:
        import jax

        wanted = {name: jax.ShapeDtypeStruct(shapes[name].shape, shapes[name].dtype)}
        return np.asarray(checkpoints.read_params(directory, wanted)[name])

    module = models.build(description.architecture)
    vocabulary = vocabulary_lib.from_dict(description.vocabulary) if description.vocabulary else None
    lengths = dict(description.feature_lengths) | _lengths(module, shapes)
    stated = {
        "data": card.trained_on(description.config, step=int(directory.name), tasks=description.task_names),
        "metrics": card.metrics_of_run(directory.parent.parent, int(directory.name)),
    }
    return Source(Leaves(module, shapes, read), vocabulary, lengths, stated, description.config)


def _lengths(module: Any, shapes: Mapping[str, Any]) -> dict[str, int]:
    """The image's side, which the grid of positions says."""
    if "image" not in models.lengths_of(module):
        return {}
    alone = isinstance(module, models.ViT)
    tower, positions = (module, "pos_embedding") if alone else (module.vision, "vision/pos_embedding")
    return {"image": math.isqrt(shapes[positions].shape[1]) * tower.patch_size}


def _cast(leaves: Leaves, dtype: str | None) -> Leaves:
    if dtype is None:
        return leaves
    target = export.float_dtype(dtype)
    shapes = {
        name: Lazy(leaf.shape, target if np.dtype(leaf.dtype) == np.float32 else leaf.dtype, lambda: None)
        for name, leaf in leaves.shapes.items()
    }
    return Leaves(leaves.module, shapes, lambda name: np.asarray(leaves.read(name)).astype(shapes[name].dtype))
