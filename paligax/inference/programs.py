"""Runs the compiled programs of an exported PaLI with jax and numpy alone: copy this file, and use it by itself.

    programs = open_programs("DIRECTORY")
    tokens = programs.generate(image, inputs, image_mask)     uint8[B, S, S, 3], int32[B, L], bool[B] → int32[B, T]
    states, mask = programs.encode(image, inputs, image_mask)                   → float[B, P + L, D], bool[B, P + L]

programs.json says S, L and T, which arguments there are, and the order in which the programs take the weights. Any B.
"""

import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

DESCRIPTION, WEIGHTS = "programs.json", "model.safetensors"
FORMAT_VERSION = 1
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_MOST_HEADER = 100 * 2**20  # bytes, as the safetensors format has it


def read_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Name → array over the mapped file. Raises ValueError where the file is cut short or is none."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER):
            raise ValueError(f"{str(path)!r} is no safetensors file, or cut short: copy it again.")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    data = np.memmap(path, np.uint8, "r", offset=8 + length) if size > 8 + length else np.zeros(0, np.uint8)
    arrays = {}
    for name, entry in header.items():
        dtype, shape, (begin, end) = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
        if not 0 <= begin <= end <= data.size or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{str(path)!r}: {name} lies outside the file: copy it again.")
        arrays[name] = data[begin:end].view(dtype).reshape(shape)
    return arrays


class Programs:
    """The programs, with their weights on the default device.

    Attributes:
      description: what programs.json says.

    Args:
      description: as there.
      exported: program's name → jax.export.Exported; its arguments are the list of weights, then the batch.
      weights: arrays in the programs' order.
    """

    def __init__(self, description: Mapping[str, Any], exported: Mapping[str, Any], weights: Sequence[Any]):
        self.description = description
        self._weights = [jax.device_put(np.asarray(array)) for array in weights]
        self._programs = {name: jax.jit(program.call) for name, program in exported.items()}

    def encode(self, image: Any, inputs: Any, image_mask: Any = None) -> tuple[jax.Array, jax.Array]:
        """Encoder states of image and text, and which of them are there.

        Args:
          image: uint8[B, S, S, 3]; zeros where there is none.
          inputs: int32[B, L], ends with EOS (1), padded with 0.
          image_mask: bool[B], False where there is no image; None: all have one.

        Returns:
          [B, P + L, D], bool[B, P + L].
        """
        return self._call("encode", image, inputs, image_mask)

    def generate(self, image: Any, inputs: Any, image_mask: Any = None) -> np.ndarray:
        """Greedy answers: int32[B, T], tokens up to and including EOS (1), then 0. Arguments as of :meth:`encode`."""
        return np.asarray(self._call("generate", image, inputs, image_mask))

    def _call(self, name: str, image: Any, inputs: Any, image_mask: Any) -> Any:
        image, inputs = np.asarray(image), np.asarray(inputs)
        image_mask = np.ones(len(inputs), bool) if image_mask is None else np.asarray(image_mask)
        side, length = self.description["lengths"]["image"], self.description["lengths"]["inputs"]
        wanted = {
            "image": (image, np.uint8, (len(inputs), side, side, 3)),
            "inputs": (inputs, np.int32, (len(inputs), length)),
            "image_mask": (image_mask, np.bool_, (len(inputs),)),
        }
        for argument, (array, dtype, shape) in wanted.items():
            if array.dtype != dtype or array.shape != shape or not len(inputs):
                raise ValueError(
                    f"{argument} is {array.dtype}{list(array.shape)}; {name} takes {np.dtype(dtype)}{list(shape)}."
                )
        return self._programs[name](self._weights, image, inputs, image_mask)


def open_programs(directory: str | os.PathLike) -> Programs:
    """Opens what ``paligax export --format=stablehlo`` wrote.

    Raises:
      FileNotFoundError: where a file is missing.
      ValueError: where a file is damaged, of another version, or not for this machine's kind of device.
    """
    place = pathlib.Path(directory)
    for file in (DESCRIPTION, WEIGHTS):
        if not (place / file).is_file():
            raise FileNotFoundError(f"No file {str(place / file)!r}. Was the export copied completely?")
    description = json.loads((place / DESCRIPTION).read_text(encoding="utf-8"))
    if description.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{str(place / DESCRIPTION)!r} is of version {description.get('format_version')!r}; this loader reads "
            f"version {FORMAT_VERSION}: use the programs.py that lies beside it."
        )
    platform = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    if platform not in description["platforms"]:
        raise ValueError(
            f"{str(place)!r} has programs for {', '.join(description['platforms'])}; the devices here are {platform}. "
            "Export again with that platform among --platforms."
        )
    exported = {
        name: jax.export.deserialize(bytearray((place / file).read_bytes()))
        for name, file in description["programs"].items()
    }
    tensors = read_safetensors(place / WEIGHTS)
    if missing := [name for name in description["weights"] if name not in tensors]:
        raise ValueError(f"{str(place / WEIGHTS)!r} lacks {missing[0]} and {len(missing) - 1} more: copy it again.")
    return Programs(description, exported, [tensors[name] for name in description["weights"]])
