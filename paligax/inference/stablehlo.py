"""The model as StableHLO programs, which jax runs on any device without paligax: an export with programs beside it.

    model.safetensors, paligax.json, …   all of an export of paligax (``paligax.load`` opens the directory)
    generate.stablehlo                   image, ids → tokens: encoder, and the greedy loop with its cache
    encode.stablehlo                     image, ids → encoder states
    programs.json                        arguments, lengths, order of the weights, platforms
    programs.py                          the loader, which needs jax and numpy alone

The weights are arguments, not constants: a program stays a few hundred kilobytes whatever the model's size, constants
above 2 GiB can't be serialised at all, both programs share one copy, and who serves may cut it over devices. The batch
is a symbol, so that one program serves every batch size.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from paligax import models
from paligax.inference import card, decoding, programs
from paligax.interop import native

PLATFORMS = ("cpu", "cuda", "tpu")
_KNOWN_PLATFORMS = (*PLATFORMS, "rocm")
ARGUMENTS = ("image", "inputs", "image_mask")


@dataclasses.dataclass(frozen=True)
class Lowered:
    """The programs of a model.

    Attributes:
      exported: name → jax.export.Exported, whose arguments are the list of weights, then ``ARGUMENTS``.
      weights: names of the weights, joined by "/", in the order in which the programs take them.
    """

    exported: Mapping[str, Any]
    weights: tuple[str, ...]


def lower(
    module: Any,
    shapes: Mapping[str, Any],
    lengths: Mapping[str, int],
    *,
    max_length: int | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> Lowered:
    """Traces and lowers both programs; no weight is read.

    Args:
      module: a PaLI.
      shapes: nested dict of something with ``.shape`` and ``.dtype``: its parameters as they will be stored.
      lengths: ``{"image": px, "inputs": L, "targets": T}``.
      max_length: most tokens of an answer; T by default.
      platforms: "cpu", "cuda", "rocm", "tpu": what the programs can be run on; this machine needn't have them.

    Raises:
      ValueError: where the model generates no text, or a platform isn't known.
    """
    if not isinstance(module, models.PaLI):
        raise ValueError(
            f"{type(module).__name__} generates no text: programs are made of a PaLI. Export it as paligax."
        )
    if unknown := [name for name in platforms if name not in _KNOWN_PLATFORMS]:
        raise ValueError(f"Platform {unknown[0]!r} is not known; known: {', '.join(_KNOWN_PLATFORMS)}.")
    module = _without_kernels(module)
    leaves = dict(native.flatten(shapes))
    length = max_length or lengths["targets"]

    def encode(weights, image, inputs, image_mask):
        params = native.unflatten(dict(zip(leaves, weights, strict=True)))
        return module.apply({"params": params}, image, inputs, image_mask, method="encode")

    def generate(weights, image, inputs, image_mask):
        params = native.unflatten(dict(zip(leaves, weights, strict=True)))
        states, mask = module.apply({"params": params}, image, inputs, image_mask, method="encode")
        return decoding.greedy_loop(module, params, states, mask, jnp.ones(inputs.shape[0], bool), length)

    (batch,) = jax.export.symbolic_shape("batch")
    side = lengths["image"]
    arguments = (
        [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves.values()],
        jax.ShapeDtypeStruct((batch, side, side, 3), np.uint8),
        jax.ShapeDtypeStruct((batch, lengths["inputs"]), np.int32),
        jax.ShapeDtypeStruct((batch,), np.bool_),
    )
    exported = {
        program.__name__: jax.export.export(jax.jit(program), platforms=tuple(platforms))(*arguments)
        for program in (encode, generate)
    }
    return Lowered(exported, tuple(leaves))


def _without_kernels(module: Any) -> Any:
    """The same model without attention kernels of one platform: "auto" takes none where no mesh says the platform."""

    def plain(description: Mapping[str, Any]) -> dict[str, Any]:
        changed = {name: plain(value) if isinstance(value, Mapping) else value for name, value in description.items()}
        if changed.get("attention_form") in ("splash", "cudnn"):
            changed["attention_form"] = "auto"
        return changed

    return models.build(plain(models.describe(module)))


def write(place: pathlib.Path, lowered: Lowered, lengths: Mapping[str, int], max_length: int | None = None) -> None:
    """Writes programs, their description and their loader into a directory."""
    files = {name: f"{name}.stablehlo" for name in lowered.exported}
    for name, file in files.items():
        (place / file).write_bytes(lowered.exported[name].serialize())
    first = next(iter(lowered.exported.values()))
    described = {
        "format_version": programs.FORMAT_VERSION,
        "programs": files,
        "arguments": ["weights", *ARGUMENTS],
        "lengths": dict(lengths) | {"targets": max_length or lengths["targets"]},
        "platforms": list(first.platforms),
        "calling_convention_version": first.calling_convention_version,
        "jax": jax.__version__,
        "weights": list(lowered.weights),
    }
    text = json.dumps(described, indent=1) + "\n"
    (place / programs.DESCRIPTION).write_text(text, encoding="utf-8")
    shutil.copyfile(programs.__file__, place / pathlib.Path(programs.__file__).name)


def use(described: Mapping[str, Any], platforms: Sequence[str], dtype: str | None) -> str:
    """What the card says under "Use"."""
    side, length = described["feature_lengths"]["image"], described["feature_lengths"]["inputs"]
    return "\n".join(
        [
            f"With jax and numpy alone, on {', '.join(platforms)}" + (f", weights in {dtype}:" if dtype else ":"),
            "",
            "```python",
            "from programs import open_programs  # programs.py lies beside this file",
            "",
            'model = open_programs("PATH/OF/THIS/DIRECTORY")',
            f"model.generate(image, inputs, image_mask)  # uint8 [B, {side}, {side}, 3], int32 [B, {length}], bool [B]",
            "```",
            "",
            "Texts become ids and ids texts with `paligax.vocabulary`, and images of any size come to "
            f"{side} × {side} with `paligax.image.resize`; neither needs the model's code. With all of paligax:",
            "",
            "```python",
            "import paligax",
            "",
            f'paligax.load("PATH/OF/THIS/DIRECTORY").generate([image], [{card.example_prompt(described)!r}])',
            "```",
        ]
    )
