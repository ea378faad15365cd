"""Pictures with the statistics of photographs, and what becomes of pictures on their way through the web."""

import io

import numpy as np
from PIL import Image

from paligax import image as image_lib


def natural(rng: np.random.Generator, side: int = 96) -> np.ndarray:
    """uint8[side, side, 3]: noise whose waves are as strong as they are long, in colours, and a few flat shapes."""
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1
    strength = frequency ** -rng.uniform(0.9, 1.3)
    strength[0, 0] = 0

    def noise():
        return np.fft.irfft2(strength * np.exp(2j * np.pi * rng.random(frequency.shape)), (side, side))

    pixels = noise()[..., None] + 0.4 * np.stack([noise() for _ in range(3)], -1)
    pixels = pixels / pixels.std() * rng.uniform(20, 60) + rng.uniform(80, 170)
    for _ in range(rng.integers(0, 4)):
        top, left, height, width = rng.integers(0, side, 4)
        pixels[top : top + height // 2 + 4, left : left + width // 2 + 4] = rng.uniform(0, 255, 3)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **how) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **how)
    return file.getvalue()


def compressed(pixels: np.ndarray, quality: int = 40) -> np.ndarray:
    return image_lib.decode(encoded(pixels, "JPEG", quality=quality))


def resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.array(Image.fromarray(pixels).resize((width, height), Image.BICUBIC))


def brightened(pixels: np.ndarray, levels: int = 20) -> np.ndarray:
    return np.clip(pixels.astype(int) + levels, 0, 255).astype(np.uint8)


def cropped(pixels: np.ndarray, share: float) -> np.ndarray:
    """Without that share of each side."""
    height, width = pixels.shape[:2]
    top, left = round(share * height), round(share * width)
    return pixels[top : height - top, left : width - left]
