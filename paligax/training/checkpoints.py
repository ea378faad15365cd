"""Checkpoints: one directory a step, written in the background, whole or not at all.

    checkpoints/1200/params/        the parameters, readable without the rest
                    /optimizer/     the optimizer's state
                    /config.gin     the resolved configuration of the run
                    /checkpoint.json  architecture, vocabulary, data fingerprint, task names
                    /manifest.json  sizes and checksums of all that, written last

orbax writes the arrays; a step counts as saved once its manifest is there.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax

from paligax.training import manifest, trees

FOLDER = "checkpoints"
CONFIG = "config.gin"
DESCRIPTION = "checkpoint.json"
VOCABULARY = "vocabulary"


class CheckpointError(RuntimeError):
    """A checkpoint that can't be written or read; the message says what is still there and what to do."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What stands beside the arrays, so that a checkpoint can be opened without the gin files of its run.

    Attributes:
      architecture: see ``models.describe``.
      vocabulary: see ``vocabulary.to_dict``; empty for models without text.
      config: resolved gin text.
      fingerprint: of the data stream: what decides its batches.
      task_names: in the order of ``batch.task``.
      feature_lengths: what the data's ``feature_lengths`` say: pixels, tokens, labels.
    """

    architecture: Mapping[str, Any]
    vocabulary: Mapping[str, Any]
    config: str
    fingerprint: str
    task_names: tuple[str, ...]
    feature_lengths: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def write(self, directory: pathlib.Path, step: int) -> None:
        import ml_collections

        described = {
            "format": 1,
            "step": step,
            "architecture": self.architecture,
            "vocabulary": self.vocabulary,
            "fingerprint": self.fingerprint,
            "task_names": self.task_names,
            "feature_lengths": self.feature_lengths,
        }
        (directory / DESCRIPTION).write_text(ml_collections.ConfigDict(described).to_json(indent=2) + "\n")
        (directory / CONFIG).write_text(self.config)

    @classmethod
    def read(cls, directory: pathlib.Path) -> "Description":
        described = json.loads((directory / DESCRIPTION).read_text())
        return cls(
            described["architecture"],
            described["vocabulary"],
            (directory / CONFIG).read_text(),
            described["fingerprint"],
            tuple(described["task_names"]),
            described.get("feature_lengths", {}),  # checkpoints before it was written
        )


def steps(directory: pathlib.Path) -> list[int]:
    """Steps whose directories have their final name, newest first."""
    if not directory.is_dir():
        return []
    return sorted((int(path.name) for path in directory.iterdir() if path.name.isdigit()), reverse=True)


def newest_whole(directory: pathlib.Path, say: Callable[[str], None], under: str = "") -> tuple[int | None, list[int]]:
    """The newest step without a fault (None: there is none), and the newer ones that have one; says which and why."""
    damaged = []
    for step in steps(directory):
        fault = manifest.fault(directory / str(step), under)
        if not fault:
            return step, damaged
        say(f"Checkpoint {directory / str(step)} is passed over: {fault}.")
        damaged.append(step)
    return None, damaged


def restore_item(directory: pathlib.Path, abstract: Any) -> Any:
    """Reads one of a step's trees, with the shardings of ``abstract``."""
    import orbax.checkpoint as ocp

    args = ocp.args.PyTreeRestore(item=abstract, restore_args=ocp.checkpoint_utils.construct_restore_args(abstract))
    return ocp.PyTreeCheckpointHandler().restore(directory, args=args)


def check_fit(directory: pathlib.Path, abstract: Any) -> None:
    """Raises CheckpointError that lists how one of a step's trees differs from what is expected; reads no array."""
    import orbax.checkpoint as ocp

    _compare(_names(abstract), _names(ocp.PyTreeCheckpointHandler().metadata(directory).tree), directory)


def _names(tree: Any) -> dict[str, Any]:
    """"a/b/c" → leaf of any pytree."""
    paths, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda leaf: leaf is None)
    return {name_of(path): leaf for path, leaf in paths}


def name_of(path: Any) -> str:
    """"a/b/c" of a path as jax.tree_util gives it."""
    return "/".join(_key(entry) for entry in path)


def _key(entry: Any) -> str:
    """The bare name of one step of a path: a dict key, a field or an index."""
    return jax.tree_util.keystr((entry,), simple=True)


def _compare(expected: Mapping[str, Any], saved: Mapping[str, Any], directory: pathlib.Path) -> None:
    problems = [f"{name} is not in the checkpoint" for name in expected if name not in saved]
    problems += [f"{name} is in the checkpoint and not in the run" for name in saved if name not in expected]
    problems += [
        f"{name} has shape {tuple(saved[name].shape)} in the checkpoint, {tuple(leaf.shape)} in the run"
        for name, leaf in expected.items()
        if name in saved and tuple(saved[name].shape) != tuple(leaf.shape)
    ]
    if problems:
        more = f"\n  … and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise CheckpointError(
            f"{directory} does not fit this run in {len(problems)} places:\n  "
            + "\n  ".join(problems[:20])
            + more
            + "\nTo start from these weights with another model, optimizer or treatments, use a new model_dir and "
            "Trainer.initial_sources."
        )


def find(path: str | pathlib.Path, under: str = "", say: Callable[[str], None] = print) -> pathlib.Path:
    """The directory of one step: that of a step itself, or the newest whole one of a run or its "checkpoints".

    Args:
      path: a step's directory, a run's, or its "checkpoints".
      under: only files below this are verified.
      say: prints a line for the user.

    Raises:
      FileNotFoundError: where there is no checkpoint.
      CheckpointError: where the step that was named, or every step, is damaged.
    """
    path = pathlib.Path(path).expanduser().absolute()
    if (path / DESCRIPTION).is_file() or (path.name.isdigit() and path.is_dir()):
        if fault := manifest.fault(path, under):
            raise CheckpointError(f"Checkpoint {path} is damaged: {fault}. Its neighbours may be whole.")
        return path
    directory = path / FOLDER if (path / FOLDER).is_dir() else path
    step, damaged = newest_whole(directory, say, under)
    if step is None and damaged:
        raise CheckpointError(f"No checkpoint in {directory} is whole: bring one back from a copy.")
    if step is None:
        raise FileNotFoundError(
            f"No checkpoint at {path}: expected a run directory with {FOLDER}/, that folder itself, or one step in it."
        )
    return directory / str(step)


def param_shapes(step_directory: pathlib.Path) -> dict[str, Any]:
    """Name → metadata (``.shape``, ``.dtype``) of a checkpoint's parameters, without reading them."""
    return shapes_of(step_directory / "params")


def shapes_of(directory: pathlib.Path) -> dict[str, Any]:
    """The same of any of a step's trees."""
    import orbax.checkpoint as ocp

    return _names(ocp.PyTreeCheckpointHandler().metadata(directory).tree)


def read_params(step_directory: pathlib.Path, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
    """Name → array of some parameters: jax arrays where ``wanted`` has a sharding, else numpy; nothing else is read."""
    return read_leaves(step_directory / "params", wanted)


def read_leaves(directory: pathlib.Path, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
    """The same of any of a step's trees."""
    import orbax.checkpoint as ocp

    item = trees.unflatten(wanted)
    args = ocp.args.PyTreeRestore(
        item=item, restore_args=ocp.checkpoint_utils.construct_restore_args(item), partial_restore=True
    )
    return trees.flatten(ocp.PyTreeCheckpointHandler().restore(directory, args=args))


def describe(path: str | pathlib.Path, say: Callable[[str], None] = print) -> tuple[pathlib.Path, Description]:
    """What a checkpoint says of itself, without reading its parameters.

    Returns:
      The directory of the step that ``path`` means, and its description; the vocabulary's file is the run's own copy
      where the original is gone.

    Raises:
      FileNotFoundError: where there is no checkpoint.
      CheckpointError: where none is whole.
    """
    directory = find(path, "params/", say)
    description = Description.read(directory)
    return directory, dataclasses.replace(description, vocabulary=_find_vocabulary(description, directory))


def restore_params(
    path: str | pathlib.Path, subtree: str | None = None, say: Callable[[str], None] = print
) -> tuple[dict[str, Any], Description]:
    """Opens a checkpoint without its gin file, its data or its optimizer.

    Args:
      path: a run's directory, its "checkpoints", or one step's; of several steps the newest whole one.
      subtree: read only parameters below this, e.g. "vision" or "language/encoder"; their names stay whole.
      say: prints a line for the user, where a damaged checkpoint is passed over.

    Returns:
      Nested dict of numpy arrays, and the description as ``describe`` gives it.

    Raises:
      FileNotFoundError: where there is no checkpoint.
      CheckpointError: where it is damaged, or has no such subtree.
    """
    directory, description = describe(path, say)
    shapes = param_shapes(directory)
    chosen = [n for n in shapes if subtree is None or n == subtree or n.startswith(subtree + trees.SEPARATOR)]
    if not chosen:
        tops = sorted({name.split(trees.SEPARATOR)[0] for name in shapes})
        raise CheckpointError(f"{directory} has no parameters under {subtree!r}; it has {', '.join(tops)}.")
    wanted = {name: jax.ShapeDtypeStruct(shapes[name].shape, shapes[name].dtype) for name in chosen}
    params = trees.unflatten(read_params(directory, wanted))
    return params, description


def _find_vocabulary(description: Description, step_directory: pathlib.Path) -> dict[str, Any]:
    vocabulary = dict(description.vocabulary)
    path = vocabulary.get("path", "")
    copy = step_directory.parent.parent / VOCABULARY / pathlib.Path(path).name
    if path and not pathlib.Path(path).is_file() and copy.is_file():
        vocabulary["path"] = str(copy)
    return vocabulary
