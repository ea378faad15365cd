"""torch's .bin files, one or many behind an index; torch is imported here, on use, and loads weights only.

The files are pickles. ``weights_only`` lets nothing run but what rebuilds tensors; without torch they aren't read at
all: safetensors files hold the same and need neither.
"""

import pathlib
import zipfile
from typing import Any

import ml_dtypes
import numpy as np

from paligax.interop.weight_files import INDEX_ENDING, files_of_index


def open_file(path: pathlib.Path) -> dict[str, Any]:
    """Name → array over the mapped file.

    Raises ImportError where torch isn't installed, FileNotFoundError, ValueError where torch refuses the file.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{str(path)!r} is a pickle of torch, which is read only by torch itself: pip install torch, or convert it "
            "to safetensors where torch is (model.save_pretrained(…))."
        ) from error
    if path.name.endswith(INDEX_ENDING):
        found: dict[str, Any] = {}
        for file, names in files_of_index(path).items():
            tensors = open_file(file)
            if lacking := [name for name in names if name not in tensors]:
                raise ValueError(f"{str(path)!r} says that {file.name!r} holds {lacking[0]!r}; it does not.")
            found |= {name: tensors[name] for name in names}
        return found
    if not path.is_file():
        raise FileNotFoundError(f"No weight file {str(path)!r}. Was the model copied completely?")
    try:
        mapped = zipfile.is_zipfile(path)  # torch before 1.6 wrote plain pickles, which can only be read whole
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises what it likes
        raise ValueError(f"torch refuses {str(path)!r} as a file of weights: {str(error).splitlines()[0]}") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise ValueError(f"{str(path)!r} holds no dict of tensors.")
    return {str(name): _as_numpy(tensor) for name, tensor in tensors.items()}


def _as_numpy(tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
