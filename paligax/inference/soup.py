"""Averages of weights: several trainings (or endings of one) of the same model become one model.

PaLI's ViT-e is the mean of two cool-downs, with and without inception crop (PaLI section 3.1). The greedy form is
recipe 1 of Wortsman et al. 2022, "Model soups".
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from paligax import models
from paligax.inference import conversion, export
from paligax.inference.conversion import Source
from paligax.interop import native
from paligax.interop.opened import Lazy


def open_all(paths: Sequence[str | os.PathLike]) -> list[Source]:
    """Opens models of one architecture, without reading their leaves.

    Args:
      paths: what ``paligax.load`` opens: runs, checkpoints, exports, foreign weights.

    Raises:
      ValueError: where there are fewer than two, or one isn't the same kind of model as the first: another
        architecture, other leaves, another vocabulary.
    """
    if len(paths) < 2:
        raise ValueError(f"A soup is made of two models at least; got {', '.join(map(str, paths)) or 'none'}.")
    sources = [conversion.open_source(path) for path in paths]
    first = sources[0]
    architecture, leaves = models.describe(first.leaves.module), _leaves(first)
    for path, source in zip(paths[1:], sources[1:], strict=True):
        other = models.describe(source.leaves.module)
        if other != architecture:
            raise ValueError(
                f"{path} and {paths[0]} are different models, which have no average: {_difference(architecture, other)}"
            )
        if _leaves(source) != leaves:
            strange = sorted(dict(set(_leaves(source).items()) ^ set(leaves.items())))
            raise ValueError(
                f"{path} and {paths[0]} differ in the shape or dtype of {len(strange)} leaves: "
                f"{', '.join(strange[:5])}{' …' if len(strange) > 5 else ''}."
            )
        if _digest(source) != _digest(first):
            raise ValueError(f"{path} and {paths[0]} have different vocabularies: their ids mean different texts.")
    return sources


def average(sources: Sequence[Source], weights: Sequence[float] | None = None) -> dict[str, Any]:
    """The weighted mean of models, a nested dict of leaves that are computed when ``numpy.asarray`` reads them.

    Each leaf is Σ wᵢ·xᵢ ÷ Σ wᵢ in float64, rounded once to the leaf's dtype; whole numbers must be alike.

    Args:
      sources: of :func:`open_all`.
      weights: one a model, not negative; all alike by default. They need not sum to 1.

    Raises:
      ValueError: where the weights don't fit; when a leaf is read whose mean isn't finite.
    """
    weights = [1.0] * len(sources) if weights is None else [float(weight) for weight in weights]
    if len(weights) != len(sources):
        raise ValueError(f"Got {len(weights)} weights for {len(sources)} models: give one a model, in the same order.")
    total = float(np.sum(weights))
    if not np.isfinite(total) or min(weights) < 0 or total <= 0:
        raise ValueError(f"weights={weights}: expected numbers from 0 on, not all of them 0.")

    def mean(name: str) -> np.ndarray:
        found = None
        for source, weight in zip(sources, weights, strict=True):
            leaf = np.asarray(source.leaves.read(name))
            if not _is_float(leaf):
                found = leaf if found is None else found
                if not np.array_equal(found, leaf):
                    raise ValueError(f"Leaf {name!r} is {leaf.dtype}, and not the same in all models: it has no mean.")
                continue
            part = leaf.astype(np.float64) * weight
            found = part if found is None else found + part
        if _is_float(leaf):
            found = (found / total).astype(leaf.dtype)
            if not np.isfinite(found.astype(np.float32)).all():
                raise ValueError(f"Leaf {name!r} has numbers that aren't finite: look at the models' own weights.")
        return found

    shapes = sources[0].leaves.shapes
    return native.unflatten(
        {name: Lazy(leaf.shape, leaf.dtype, lambda name=name: mean(name)) for name, leaf in shapes.items()}
    )


@dataclasses.dataclass(frozen=True)
class Greedy:
    """What a greedy soup is made of.

    Attributes:
      kept: indices of models, best first.
      score: the soup's.
      call: which call of the score function was the soup's, from 0 on.
    """

    kept: tuple[int, ...]
    score: float
    call: int


def greedy(
    sources: Sequence[Source], score: Callable[[Mapping[str, Any]], float], say: Callable[[str], None] = print
) -> Greedy:
    """Which models a greedy soup is made of: from the best one on, each is kept if it doesn't make the mean worse.

    Args:
      sources: of :func:`open_all`.
      score: parameters (nested dict of arrays) → how good they are on held-out data; higher is better.
      say: is told each score.
    """
    scores = []
    for index, source in enumerate(sources):
        scores.append(score(read(source.params())))
        say(f"Model {index + 1} alone: {scores[-1]:.4g}")
    order = sorted(range(len(sources)), key=lambda index: -scores[index])
    soup = Greedy((order[0],), scores[order[0]], order[0])
    for call, index in enumerate(order[1:], len(sources)):
        kept = (*soup.kept, index)
        found = score(read(average([sources[i] for i in kept])))
        say(f"With model {index + 1}: {found:.4g}, {'kept' if found >= soup.score else 'left out'}")
        if found >= soup.score:
            soup = Greedy(kept, found, call)
    return soup


def read(params: Mapping[str, Any]) -> dict[str, Any]:
    """Lazy leaves → numpy arrays."""
    return native.unflatten({name: np.asarray(leaf) for name, leaf in native.flatten(params)})


def write(
    to: str | os.PathLike,
    paths: Sequence[str | os.PathLike],
    sources: Sequence[Source],
    weights: Sequence[float] | None = None,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
) -> pathlib.Path:
    """Writes the mean as an export, which ``paligax.load`` opens and a run can start from; one leaf in memory.

    Args:
      to: the directory.
      paths: where the sources are, for the card.
      sources, weights: see :func:`average`.
      metrics: of the soup, for the card.

    Raises:
      FileExistsError, ValueError, OSError: as ``export`` and :func:`average` raise them.
    """
    first = sources[0]
    params = average(sources, weights)
    shares = np.asarray(weights or [1.0] * len(sources), np.float64)
    stated = dict(first.stated)
    stated["metrics"] = metrics or {}
    stated["data"] = dict(stated.get("data", {})) | {
        "mean of": ", ".join(f"{path} × {w:.4g}" for path, w in zip(paths, shares / shares.sum(), strict=True))
    }
    return export.export(
        to,
        first.leaves.module,
        params,
        first.vocabulary,
        feature_lengths=first.feature_lengths,
        config=first.config,
        **stated,
    )


def _is_float(leaf: np.ndarray) -> bool:
    return leaf.dtype.kind in "fV"  # bfloat16 is of kind V


def _leaves(source: Source) -> dict[str, tuple]:
    return {name: (tuple(leaf.shape), str(np.dtype(leaf.dtype))) for name, leaf in source.leaves.shapes.items()}


def _digest(source: Source) -> str | None:
    return source.vocabulary.digest() if source.vocabulary is not None else None


def _difference(first: Any, other: Any, where: str = "") -> str:
    """The first place where two descriptions differ."""
    if isinstance(first, Mapping) and isinstance(other, Mapping):
        for name in sorted({*first, *other}):
            if first.get(name) != other.get(name):
                return _difference(first.get(name), other.get(name), f"{where}.{name}".lstrip("."))
    return f"{where or 'they'}: {other!r} and {first!r}."
