"""Starting from other weights: several sources, each into its own subtree, every leaf accounted for.

Resuming a run and initialising one are two things: this happens once, at step 0, and touches parameters only.
"""

import dataclasses
import difflib
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from paligax import models
from paligax.interop.foreign import is_foreign, open_foreign
from paligax.interop.weight_files import Tensors
from paligax.training import checkpoints, trees

WEIGHTS = "model.safetensors"
POSITIONS = "pos_embedding"


@dataclasses.dataclass(frozen=True)
class InitialSource:
    """Weights for one or more subtrees of the model.

    Attributes:
      path: a run directory, its "checkpoints", one step's directory, an exported model (a directory with
        model.safetensors, or such a file), or foreign weights: see ``paligax.interop.foreign.KINDS``.
      mapping: (subtree in the source, subtree of the model) pairs, e.g. (("vision", "vision"),); "" is the whole tree.
      resample_positions: how learned positions of another grid are resampled: "align_corners" is linear between the
        corner points (big_vision's resample_posemb), "half_pixel" is jax.image.resize's bilinear rule; "refuse" makes
        another grid an error.
      expected_missing: regexes of the model's names below the targets that may be missing in the source; they stay as
        they were initialised.
      expected_unused: regexes of the source's names below its subtrees that the model may do without.
    """

    path: str
    mapping: Sequence[tuple[str, str]] = (("", ""),)
    resample_positions: str = "align_corners"
    expected_missing: Sequence[str] = ()
    expected_unused: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A source whose leaves are known and not yet read.

    Attributes:
      place: shown to the user.
      shapes: name → something with ``.shape`` and ``.dtype``.
      read: name → ShapeDtypeStruct (with a sharding or without) → name → array.
    """

    place: str
    shapes: Mapping[str, Any]
    read: Callable[[Mapping[str, jax.ShapeDtypeStruct]], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class _Leaf:
    """One parameter that is taken over: from which name of which source, and whether it is resampled."""

    source: InitialSource
    opened: _Opened
    name: str
    resampled: bool


def initialise(sources: Sequence[InitialSource], params: Any, say: Callable[[str], None]) -> Any:
    """Parameters with the sources' weights in their places; shardings and dtypes stay.

    Args:
      sources: no two of them may fill the same parameter.
      params: nested dict of freshly initialised global arrays.
      say: prints a line for the user; it gets one for every parameter.

    Raises:
      ValueError: one error that lists all leaves that are missing in a source, unused, misshapen, or filled twice.
      FileNotFoundError: where a source does not exist.
    """
    if not sources:
        return params
    leaves = trees.flatten(params)
    plan, problems = _plan(sources, leaves)
    if problems:
        more = f"\n  … and {len(problems) - 40} more" if len(problems) > 40 else ""
        raise ValueError(
            f"Trainer.initial_sources don't fit the model in {len(problems)} places:\n  "
            + "\n  ".join(problems[:40])
            + more
            + "\nWhere that is as it should be, list the names in InitialSource.expected_missing or expected_unused "
            "(regexes); otherwise correct its mapping."
        )
    for opened in {id(leaf.opened): leaf.opened for leaf in plan.values()}.values():
        _fill(leaves, {target: leaf for target, leaf in plan.items() if leaf.opened is opened})
    for target in leaves:
        say(_line(target, leaves[target], plan.get(target)))
    return trees.unflatten(leaves)


def _plan(sources: Sequence[InitialSource], leaves: Mapping[str, Any]) -> tuple[dict[str, _Leaf], list[str]]:
    """Target name → where it comes from, and everything that is wrong."""
    plan: dict[str, _Leaf] = {}
    problems: list[str] = []
    for source in sources:
        opened = _open(source.path)
        missing = _regexes(source.expected_missing, "expected_missing")
        unused = _regexes(source.expected_unused, "expected_unused")
        wanted: dict[str, str] = {}
        for source_root, target_root in source.mapping:
            targets = _below(leaves, target_root)
            offered = _below(opened.shapes, source_root)
            if not targets:
                problems.append(f"the model has nothing under {target_root!r}{_near(target_root, _roots(leaves))}")
            if not offered:
                problems.append(
                    f"{opened.place} has nothing under {source_root!r}{_near(source_root, _roots(opened.shapes))}"
                )
            if not targets or not offered:
                continue
            for rest, target in targets.items():
                if rest in offered:
                    wanted[target] = offered[rest]
                elif not _matches(missing, target):
                    problems.append(f"{target} is missing in {opened.place}{_near(rest, list(offered))}")
            for rest, name in offered.items():
                if rest not in targets and not _matches(unused, name):
                    problems.append(f"{opened.place} has {name}, the model does not{_near(rest, list(targets))}")
        for target, name in wanted.items():
            shape, expected = tuple(opened.shapes[name].shape), tuple(leaves[target].shape)
            resampled = shape != expected
            if resampled and not _can_resample(source, target, shape, expected):
                problems.append(f"{target} has shape {expected}, {name} in {opened.place} has {shape}")
            elif target in plan:
                problems.append(f"{target} is filled by {plan[target].opened.place} and by {opened.place}")
            else:
                plan[target] = _Leaf(source, opened, name, resampled)
    return plan, problems


def _can_resample(source: InitialSource, target: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    is_positions = target.split(trees.SEPARATOR)[-1] == POSITIONS and len(shape) == 3 and shape[2] == expected[2]
    return is_positions and source.resample_positions != "refuse"


def _fill(leaves: dict[str, Any], plan: Mapping[str, _Leaf]) -> None:
    """Reads what comes from one source into the leaves: as it lies where shapes agree, else by way of numpy."""
    opened = next(iter(plan.values())).opened
    wanted = {}
    for target, leaf in plan.items():
        saved = opened.shapes[leaf.name]
        sharding = None if leaf.resampled else leaves[target].sharding
        wanted[leaf.name] = jax.ShapeDtypeStruct(saved.shape, saved.dtype, sharding=sharding)
    read = opened.read(wanted)
    for target, leaf in plan.items():
        value = read[leaf.name]
        old = leaves[target]
        if leaf.resampled:
            value = models.resample_positions(value, old.shape[1], leaf.source.resample_positions)
        leaves[target] = _placed(value.astype(old.dtype), old.sharding)


def _placed(value: Any, sharding: Any) -> jax.Array:
    """A global array: as it is where it has this sharding already, else cut from the whole, which every process has."""
    if isinstance(value, jax.Array) and value.sharding == sharding:
        return value
    whole = np.asarray(value)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def _line(target: str, value: Any, leaf: _Leaf | None) -> str:
    shape = "×".join(map(str, value.shape)) or "scalar"
    origin = "left at its initialisation"
    if leaf is not None:
        origin = f"from {leaf.opened.place} {leaf.name}"
        if leaf.resampled:
            old = "×".join(map(str, leaf.opened.shapes[leaf.name].shape))
            origin += f", resampled {old} → {shape} ({leaf.source.resample_positions})"
    return f"  {target:<56} {shape:<18} {value.dtype!s:<9} {origin}"


def _open(path: str) -> _Opened:
    if is_foreign(path):
        foreign = open_foreign(path)
        return _Opened(foreign.place, foreign.shapes, foreign.read)
    place = pathlib.Path(path).expanduser()
    file = place / WEIGHTS if place.is_dir() else place
    if file.is_file() and file.suffix == ".safetensors":
        weights = Tensors(file)  # names are joined by "/"
        return _Opened(str(file), weights, lambda wanted: {name: weights[name] for name in wanted})
    directory = checkpoints.find(place, "params/")
    return _Opened(
        place=str(directory),
        shapes=checkpoints.param_shapes(directory),
        read=lambda wanted: checkpoints.read_params(directory, wanted),
    )


def _below(names: Any, root: str) -> dict[str, str]:
    """Name below the root → whole name; a root that is a leaf itself gives {"": root}."""
    if not root:
        return {name: name for name in names}
    prefix = root + trees.SEPARATOR
    return {name[len(prefix) :]: name for name in names if name.startswith(prefix)} | (
        {"": root} if root in names else {}
    )


def _roots(names: Any) -> list[str]:
    """Every subtree that a mapping could name."""
    parts = [name.split(trees.SEPARATOR) for name in names]
    return sorted({trees.SEPARATOR.join(p[:i]) for p in parts for i in range(1, len(p) + 1)})


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (the nearest is {near[0]})" if near else ""


def _regexes(patterns: Sequence[str], argument: str) -> list[re.Pattern]:
    try:
        return [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise ValueError(f"InitialSource.{argument}: {error.pattern!r} is no regular expression: {error}.") from error


def _matches(regexes: Sequence[re.Pattern], name: str) -> bool:
    return any(regex.fullmatch(name) for regex in regexes)
