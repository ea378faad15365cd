"""The models, and the little that other rooms need of Linen: building, describing, axes and plain parameter trees."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from paligax.models.mt5 import MT5
from paligax.models.pali import PaLI
from paligax.models.siglip import SigLIP, TextTower
from paligax.models.vit import Classifier, ViT, resample_positions

__all__ = [
    "MT5",
    "PaLI",
    "SigLIP",
    "TextTower",
    "ViT",
    "Classifier",
    "abstract_params",
    "build",
    "describe",
    "lengths_of",
    "logical_axes",
    "resample_positions",
    "unbox",
    "vocabulary_rows",
]

CLASSES: dict[str, type[nn.Module]] = {cls.__name__: cls for cls in (Classifier, MT5, PaLI, SigLIP, TextTower, ViT)}


def describe(module: nn.Module) -> dict[str, Any]:
    """A model's architecture as a plain dict: its class and its constructor arguments, submodules likewise.

    Raises:
      ValueError: where the class is not one of the models.
    """
    name = type(module).__name__
    if name not in CLASSES:
        raise ValueError(f"{name} is not a model of paligax; known: {', '.join(CLASSES)}.")
    description: dict[str, Any] = {"class": name}
    for field in dataclasses.fields(CLASSES[name]):
        if field.name not in ("parent", "name"):
            value = getattr(module, field.name)
            description[field.name] = describe(value) if isinstance(value, nn.Module) else value
    return description


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """The model of an architecture that :func:`describe` gave.

    Raises:
      ValueError: for a class or an argument that isn't known.
    """
    fields = dict(architecture)
    name = fields.pop("class", None)
    if name not in CLASSES:
        raise ValueError(f"Model class {name!r} is not known; known: {', '.join(CLASSES)}.")
    known = {field.name for field in dataclasses.fields(CLASSES[name])} - {"parent", "name"}
    if unknown := set(fields) - known:
        raise ValueError(f"{name} has no argument {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}.")
    return CLASSES[name](**{k: build(v) if isinstance(v, Mapping) else v for k, v in fields.items()})


def lengths_of(module: nn.Module) -> tuple[str, ...]:
    """Which lengths a model is used with: its image's side in px, its texts' in tokens, its number of labels."""
    return _LENGTHS[type(module).__name__]


_LENGTHS: dict[str, tuple[str, ...]] = {
    "Classifier": ("image", "labels"),
    "MT5": (),
    "PaLI": ("image", "inputs", "targets"),
    "SigLIP": ("image",),
    "TextTower": (),
    "ViT": ("image",),
}


def vocabulary_rows(module: nn.Module) -> int | None:
    """Rows of a model's embedding of text; None where it has none."""
    tower = getattr(module, "language", module)
    return getattr(tower, "vocab_size", None)


def abstract_params(module: nn.Module, lengths: Mapping[str, int]) -> dict[str, Any]:
    """Shapes and dtypes of a model's parameters: nested dict of ``jax.ShapeDtypeStruct``; nothing is computed.

    Args:
      module: of this package.
      lengths: those that :func:`lengths_of` names; of them only the image's side has a say in the shapes.
    """
    return _abstract_params(module, lengths.get("image"))


@functools.lru_cache(maxsize=16)
def _abstract_params(module: nn.Module, side: int | None) -> dict[str, Any]:
    image = [] if side is None else [jax.ShapeDtypeStruct((1, side, side, 3), jnp.uint8)]
    ids = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    texts = {"MT5": 2, "PaLI": 2, "SigLIP": 1, "TextTower": 1}.get(type(module).__name__, 0)
    return unbox(jax.eval_shape(module.init, jax.random.key(0), *image, *[ids] * texts))["params"]


def logical_axes(variables: Any) -> Any:
    """The tree of logical axis names (tuples of str or None) of freshly initialised, boxed variables."""
    return jax.tree.map(
        lambda leaf: tuple(leaf.names) if isinstance(leaf, nn.LogicallyPartitioned) else (None,) * leaf.ndim,
        variables,
        is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned),
    )


def unbox(variables: Any) -> Any:
    """Variables without the boxes that carry their axis names: a plain nested dict of arrays."""
    return nn.meta.unbox(variables)
