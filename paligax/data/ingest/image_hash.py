"""A perceptual hash: pictures that look alike have hashes that differ in few bits.

The picture's luminance at 32 x 32 pixels is taken apart into waves (the discrete cosine transform). Each bit of the
*coarse* half says whether one of the 64 slowest, the mean left out, is above their median; the *fine* half says the
same of the 64 next ones. Size, compression, brightness and contrast hardly change them. Colours count for nothing:
flags in one frame, or pictograms of one outline, have near hashes. (The coarse half is a variant of what is known as
pHash: Zauner 2010. Alone it takes one bright shape on the same side of two pictures for the same.)
"""

import functools

import numpy as np

from paligax import image as image_lib

_SIDE = 32
_FLAT = 2.0  # grey levels: with a smaller standard deviation there is nothing to see
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of Rec. 601
CROPS = (0.03, 0.06)  # of each side: rims without which an evaluation image is known too
VIEWS = 2 + 2 * len(CROPS)


@functools.cache
def _waves() -> np.ndarray:
    """float32[128, 32 · 32]: the slowest waves, by their two frequencies' sum, the mean left out."""
    position = (np.arange(_SIDE) + 0.5) / _SIDE
    wave = np.cos(np.pi * np.arange(_SIDE)[:, None] * position)
    slowest = sorted(((i, j) for i in range(_SIDE) for j in range(_SIDE) if i + j), key=lambda ij: (sum(ij), ij))
    return np.stack([np.outer(wave[i], wave[j]).ravel() for i, j in slowest[:128]]).astype(np.float32)


def perceptual_hash(image: np.ndarray) -> tuple[int, int] | None:
    """uint8[H, W, 3] → 64 coarse bits, 64 fine bits; None where there is nothing to see, as in many others."""
    grey = image_lib.resize(image, _SIDE) @ _LUMINANCE
    if grey.std() < _FLAT:
        return None
    strength = _waves() @ (grey - grey.mean()).ravel()
    return _bits(strength[:64]), _bits(strength[64:])


def _bits(strength: np.ndarray) -> int:
    return int.from_bytes(np.packbits(strength > np.median(strength)).tobytes(), "big")


def views(image: np.ndarray) -> list[tuple[int, int]]:
    """The hashes by which an evaluation image is found: whole and without its rim (``CROPS``), each mirrored too.

    Always ``VIEWS`` of them, or none where there is nothing to see.
    """
    height, width = image.shape[:2]
    seen = [image]
    for share in CROPS:
        top, left = round(share * height), round(share * width)
        seen.append(image[top : height - top, left : width - left])
    hashes = [perceptual_hash(v) for view in seen for v in (view, view[:, ::-1])]
    return [] if hashes[0] is None else [hashes[0] if value is None else value for value in hashes]
