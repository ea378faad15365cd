"""A model on the devices, ready to answer: opened an array at a time, cut over the mesh, and known by its weights."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from paligax import models
from paligax.inference import conversion, placement
from paligax.inference.placement import Placement
from paligax.interop import native
from paligax.interop.opened import Lazy
from paligax.training import checkpoints
from paligax.training.partitioning import Partitioner


@dataclasses.dataclass(frozen=True)
class Answerer:
    """A model on the devices, ready to answer.

    Attributes:
      module: a PaLI.
      vocabulary: of paligax.vocabulary.
      feature_lengths: ``{"image": px, "inputs": L, "targets": T}``.
      placed: parameters, and where a batch's rows lie.
      identity: which weights these are, the same whenever they are opened again.
    """

    module: Any
    vocabulary: Any
    feature_lengths: Mapping[str, int]
    placed: Placement
    identity: str

    @classmethod
    def open(cls, path: str | os.PathLike, batch_size: int, partitioner: Partitioner | None = None) -> "Answerer":
        """Opens a run, one of its checkpoints or an export, cut over the mesh; an array at a time is on the host.

        Raises:
          ValueError: where the model answers nothing, or can't be cut so.
        """
        partitioner = partitioner or Partitioner(replicate_indivisible=True)
        source = conversion.open_source(path)
        module, lengths = source.leaves.module, source.feature_lengths
        if not isinstance(module, models.PaLI) or source.vocabulary is None:
            without = "" if isinstance(module, models.PaLI) else f", a {type(module).__name__}"
            raise ValueError(
                f"{str(path)!r}{without}: `paligax infer` asks a PaLI that knows its vocabulary: a run, one of its "
                "checkpoints, or what `paligax export` wrote as paligax or stablehlo."
            )
        abstract = models.abstract_params(module, lengths)
        native.check(native.unflatten(source.leaves.shapes), abstract, str(path))
        rows_of_mesh = _rows(partitioner)
        if batch_size % rows_of_mesh:
            raise ValueError(
                f"--batch_size={batch_size}: expected a multiple of {rows_of_mesh}, the parts into which the devices "
                "cut a batch."
            )
        placed = placement.place(_read_once(source), batch_size, partitioner, module, lengths)
        return cls(module, source.vocabulary, lengths, placed, identity(path))


def _rows(partitioner: Partitioner) -> int:
    mesh = partitioner.mesh()
    return mesh.shape["data"] * mesh.shape["fsdp"]


def _read_once(source: conversion.Source) -> dict[str, Any]:
    """Parameters that are read when asked; the one read last is kept, because every device asks for its part."""
    last: dict[str, np.ndarray] = {}

    def read(name: str) -> np.ndarray:
        if name not in last:
            last.clear()
            last[name] = np.asarray(source.leaves.read(name))
        return last[name]

    shapes = source.leaves.shapes
    return native.unflatten(
        {name: Lazy(leaf.shape, leaf.dtype, lambda name=name: read(name)) for name, leaf in shapes.items()}
    )


def identity(path: str | os.PathLike) -> str:
    """A hash of which weights lie here: of a checkpoint's checksums, or of the ends of an export's file."""
    place = pathlib.Path(path).expanduser()
    if (file := place / "model.safetensors").is_file():
        size, hashed = file.stat().st_size, hashlib.sha256()
        with file.open("rb") as opened:
            hashed.update(opened.read(2**20))
            opened.seek(max(0, size - 2**20))
            hashed.update(opened.read() + str(size).encode())
        return hashed.hexdigest()[:16]
    directory = checkpoints.find(place, "params/", lambda line: None)
    described = (directory / "manifest.json").read_bytes()
    return f"step {directory.name} {hashlib.sha256(described).hexdigest()[:16]}"
