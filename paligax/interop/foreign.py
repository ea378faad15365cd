"""A foreign model as a tree of our leaves: everything about it is known at opening, and each leaf is read when asked.

A leaf is copied once, from the mapped file into its place on its device; with a sharding, only the part that lies on
this process's devices is touched.
"""

import dataclasses
import difflib
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from paligax import models
from paligax.interop import big_vision, hf, msgpack_files, native, npz_files, t5x
from paligax.interop.layouts import Layout
from paligax.interop.opened import ARCHITECTURE, Opened, Tensors

KINDS = (
    "a directory that transformers saved (mT5, umT5, T5 v1.1, SigLIP, ViT), a big_vision .npz (FILE.npz:img for one of "
    "its towers), a T5X checkpoint, or a flax .msgpack"
)
_SHOWN = 40
_ENDINGS = (".npz", ".msgpack")
_OURS = ("paligax.json", "checkpoints", "checkpoint.json")  # an export, a run, a step of it: whatever lies beside
_PART = re.compile(r"(.+):([\w/]+)")


@dataclasses.dataclass(frozen=True)
class Foreign:
    """An opened foreign model.

    Attributes:
      place: where it lies.
      module: our module of the same architecture.
      shapes: our leaves' names, joined by "/" → shape and dtype, as stored there.
      unused: names of tensors there that the module has no place for and needs none (a pooling head, say).
    """

    place: str
    module: Any
    shapes: Mapping[str, jax.ShapeDtypeStruct]
    unused: tuple[str, ...]
    _layouts: Mapping[str, Layout]
    _tensors: Tensors

    def read(self, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
        """The leaves asked for, in the dtype and with the sharding (None: the default device) asked for."""
        return {name: self._leaf(name, spec) for name, spec in wanted.items()}

    def _leaf(self, name: str, spec: jax.ShapeDtypeStruct) -> jax.Array:
        sharding = spec.sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shape = self._layouts[name].shape
        return jax.make_array_from_callback(shape, sharding, lambda index: self._part(name, index, spec.dtype))

    def _part(self, name: str, index: tuple[slice, ...], dtype: Any) -> np.ndarray:
        layout = self._layouts[name]
        shape = tuple(len(range(*i.indices(size))) for i, size in zip(index, layout.shape, strict=True))
        out = native.aligned_empty(shape, dtype)
        layout.read(lambda theirs: np.asarray(self._tensors[theirs]), index, out)
        return out

    def array(self, name: str) -> np.ndarray:
        """One leaf on the host, as stored there."""
        shape = self._layouts[name].shape
        return self._part(name, tuple(slice(0, size) for size in shape), self.shapes[name].dtype)

    def params(self) -> dict[str, Any]:
        """All of them, as a nested dict on the default device."""
        return native.unflatten(self.read(self.shapes))


def split_part(path: str | os.PathLike) -> tuple[pathlib.Path, str]:
    """``"FILE.npz:img"`` → the file, and which of its subtrees is meant; ("", where none is)."""
    whole = pathlib.Path(path).expanduser()
    match = _PART.fullmatch(str(whole))
    if whole.exists() or not match or not match.group(1).endswith(_ENDINGS):
        # A file that is one of a directory of transformers means the directory.
        return (whole.parent if hf.is_weight_file(whole) else whole), ""
    return pathlib.Path(match.group(1)), match.group(2).strip("/")


def is_foreign(path: str | os.PathLike) -> bool:
    """Whether :func:`open_foreign` is the one to open this: a directory or file of somebody else's making."""
    place, _ = split_part(path)
    if place.is_file():
        return place.suffix in _ENDINGS or place.name == t5x.FILE
    if not place.is_dir() or any((place / own).exists() for own in _OURS):
        return False
    return hf.is_directory(place) or t5x.find(place) is not None or _only_file(place) is not None


def open_foreign(path: str | os.PathLike) -> Foreign:
    """Opens foreign weights: see ``KINDS``.

    Raises:
      FileNotFoundError: where a file is missing.
      ValueError: where a file is damaged, of a family that isn't known, or doesn't hold what its configuration says;
        then all leaves that are missing, misshapen or unexpected are listed.
      ImportError: for a pickle of torch where torch isn't installed.
    """
    path, part = split_part(path)
    opened = _described(_recognised(path, part), path) if path.is_dir() else _recognised(path, part)
    arguments = [jax.ShapeDtypeStruct(*spec) for spec in opened.inputs.values()]
    tree = jax.eval_shape(opened.module.init, jax.random.key(0), *arguments)
    leaves = dict(native.flatten(models.unbox(tree)["params"]))
    shapes, problems = {}, []
    layouts = {rule.ours: Layout(rule, leaves[rule.ours].shape) for rule in opened.rules}
    left = sorted(set(opened.tensors).difference(*(layout.names for layout in layouts.values())))
    for ours, layout in layouts.items():
        for name in layout.names:
            if name not in opened.tensors:
                near = difflib.get_close_matches(name, left, n=1)
                problems.append(f"missing {name}" + (f" (there is {near[0]})" if near else ""))
            elif tuple(opened.tensors[name].shape) != layout.foreign_shape:
                problems.append(
                    f"{name} has shape {list(opened.tensors[name].shape)}, expected {list(layout.foreign_shape)}"
                )
            elif not jax.numpy.issubdtype(opened.tensors[name].dtype, jax.numpy.floating):
                problems.append(f"{name} has dtype {opened.tensors[name].dtype}, expected a float")
            else:
                shapes[ours] = jax.ShapeDtypeStruct(layout.shape, opened.tensors[name].dtype)
    problems += [f"unexpected {name} {list(opened.tensors[name].shape)}" for name in left]
    if unread := set(leaves) - set(layouts):
        raise AssertionError(f"No rule for {', '.join(sorted(unread))}.")
    if problems:
        more = f"\n  … and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{opened.place!r} isn't what {opened.source}, in {len(problems)} places:\n  "
            + "\n  ".join(problems[:_SHOWN])
            + more
        )
    return Foreign(opened.place, opened.module, shapes, opened.unused, layouts, opened.tensors)


def _recognised(path: pathlib.Path, part: str) -> Opened:
    """Which family these are, by configuration or by names."""
    if not path.exists():
        raise FileNotFoundError(f"No weights at {str(path)!r}; paligax reads {KINDS}.")
    if path.is_dir() and hf.is_directory(path):
        return hf.open_directory(path)
    file = _only_file(path) if path.is_dir() and not t5x.find(path) else path
    place = f"{path}:{part}" if part else str(path)
    if file is not None and file.suffix == ".npz":
        tensors = _root(npz_files.open_archive(file))
    elif file is not None and file.is_file():
        tensors = t5x.read_tree(msgpack_files.read_tree(file), file.parent)
    elif step := t5x.find(path):
        tensors = t5x.read_directory(step)
    else:
        raise ValueError(f"{str(path)!r} is no foreign model that paligax knows; it reads {KINDS}.")
    if part:
        below = {n.removeprefix(f"{part}/"): tensors[n] for n in tensors if n.startswith(f"{part}/")}
        if not below:
            near = difflib.get_close_matches(part, _top(tensors), n=1, cutoff=0.3)
            hint = f"; the nearest is {near[0]}" if near else ""
            raise ValueError(f"{str(path)!r} has nothing under {part!r}; it has {', '.join(_top(tensors))}{hint}.")
        tensors = below
    for known, open_it in (
        (big_vision.is_two_towers, big_vision.open_two_towers),
        (big_vision.is_vit, big_vision.open_vit),
        (t5x.is_mt5, t5x.open_mt5),
    ):
        if known(tensors):
            return open_it(place, tensors)
    towers = [name for name in _top(tensors) if f"{name}/embedding/kernel" in tensors]
    hint = f" For its image tower, name it: {path}:{towers[0]}" if towers else ""
    raise ValueError(
        f"{place!r} holds no model that paligax knows: it has {', '.join(_top(tensors)) or 'nothing'}. Known are "
        f"big_vision's ViT and two_towers, and T5X's encoder-decoder.{hint}"
    )


def _described(opened: Opened, path: pathlib.Path) -> Opened:
    """With the architecture that paligax wrote beside the weights, where it did."""
    file = path / ARCHITECTURE
    if not file.is_file():
        return opened
    try:
        module = models.build(hf.read_config(file))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{str(file)!r} describes no model of paligax: {error}") from error
    if type(module) is not type(opened.module):
        raise ValueError(
            f"{str(file)!r} describes a {type(module).__name__}, beside it lies a {type(opened.module).__name__}."
        )
    return dataclasses.replace(opened, module=module, source=f"its {ARCHITECTURE} says")


def _root(tensors: Tensors) -> dict[str, Any]:
    """Parameters alone, where a file holds an optimizer's state beside them."""
    for root in ("params/", "opt/target/", "opt/target/params/"):
        if below := {name.removeprefix(root): tensors[name] for name in tensors if name.startswith(root)}:
            return below
    return dict(tensors)


def _only_file(path: pathlib.Path) -> pathlib.Path | None:
    """A directory's one file of a known ending, where nothing else in it says what it is."""
    files = [file for file in path.iterdir() if file.suffix in _ENDINGS]
    return files[0] if len(files) == 1 else None


def _top(tensors: Tensors) -> list[str]:
    return sorted({name.split("/")[0] for name in tensors})[:20]
