"""One question → the arrays of one row, prepared as in training; rows → a batch of a fixed size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paligax import image as image_lib

# (pixels uint8[side, side, 3], or None where there is no image; ids of the prompt with EOS)
Row = tuple[np.ndarray | None, list[int]]


def picture(image: Any, side: int, name: str = "The image") -> np.ndarray:
    """uint8[H, W, 3] of any size, or the bytes of a JPEG or PNG, → uint8[side, side, 3].

    Bytes take the way of training: a large JPEG is reduced while it is decoded (``paligax.image.reduction``).

    Raises:
      ValueError, OSError: where it is no image.
    """
    if isinstance(image, bytes):
        return image_lib.decode_and_resize(image, side)
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(
            f"{name} is {image.dtype}{list(image.shape)}; expected uint8[H, W, 3] (red, green, blue), or the bytes of "
            "a JPEG or PNG."
        )
    return image_lib.resize(image, side)


def prompt_ids(vocabulary: Any, prompt: str, length: int) -> list[int]:
    """Ids of a prompt with EOS, at most ``length`` of them, cut as the training tasks cut it.

    Prompts that are too long lose their last words, but not a sentinel at their end.

    Raises:
      ValueError: where the prompt is no text.
    """
    if not isinstance(prompt, str):
        raise ValueError(f"Prompts must be texts, got {type(prompt).__name__}: {prompt!r}.")
    ids = vocabulary.encode(prompt)
    sentinels = set(vocabulary.sentinels.values())
    end = [ids.pop()] if ids and ids[-1] in sentinels else []
    end.append(vocabulary.eos_id)
    return ids[: length - len(end)] + end


def stack(
    rows: Sequence[Row | None], size: int, lengths: Mapping[str, int]
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """At most ``size`` rows, None where a row can't be asked → a batch of that size.

    Returns:
      (image uint8[size, side, side, 3], inputs int32[size, L], image_mask bool[size]), and bool[size]: which of the
      rows are to be decoded.
    """
    side = lengths["image"]
    image = np.zeros((size, side, side, 3), np.uint8)
    inputs = np.zeros((size, lengths["inputs"]), np.int32)
    image_mask, active = np.zeros(size, bool), np.zeros(size, bool)
    for i, row in enumerate(rows):
        if row is None:
            continue
        pixels, ids = row
        active[i], image_mask[i] = True, pixels is not None
        if pixels is not None:
            image[i] = pixels
        inputs[i, : len(ids)] = ids
    return (image, inputs, image_mask), active
