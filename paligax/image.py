"""Bytes → pixels and pixels → model input, without TensorFlow.

There is one resize filter, "triangle": bilinear with the support widened by the reduction factor, so that it averages
what it leaves out (PIL's BILINEAR, TensorFlow's antialias=True). Training, evaluation and serving all call ``resize``.
EXIF orientation is ignored, as TensorFlow's decoder does.
"""

import io
import struct

import numpy as np

# Per image: what a header may claim before it is taken for a decompression bomb. A JPEG's side is below the limit.
MAX_PIXELS, MAX_SIDE = 64_000_000, 65_535
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def size(data: bytes) -> tuple[int, int]:
    """(height, width) as a JPEG's or PNG's header claims; (0, 0) where it is neither or cut short."""
    if data[:8] == _PNG and len(data) >= 24 and data[12:16] == b"IHDR":
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    position = 2
    while data[:3] == _JPEG and position + 9 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker in _START_OF_FRAME:
            return struct.unpack(">HH", data[position + 5 : position + 9])
        if marker == 0xFF:  # filling
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no segment behind it
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return 0, 0


def problem(data: bytes, decode_it: bool = True) -> str:
    """Why image bytes cannot be used, or "": "not a JPEG or PNG", "image too large", "broken image"."""
    if not data.startswith((_PNG, _JPEG)):
        return "not a JPEG or PNG"
    height, width = size(data)
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        return "image too large"
    if not height or not width:
        return "broken image"
    if decode_it:
        try:
            decode(data)
        except (OSError, ValueError, SyntaxError):
            return "broken image"
    return ""


def decode(data: bytes) -> np.ndarray:
    """JPEG or PNG bytes → uint8[H, W, 3]. Raises ValueError or OSError where they are broken, cut or too large."""
    from PIL import Image

    if reason := problem(data, decode_it=False):
        raise ValueError(f"{reason}: {len(data)} bytes beginning with {data[:8]!r}, size {size(data)}.")
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def decode_and_resize(data: bytes, resolution: int) -> np.ndarray:
    """JPEG or PNG bytes → uint8[resolution, resolution, 3], aspect ratio not kept."""
    return resize(decode(data), resolution)


def resize(image: np.ndarray, resolution: int) -> np.ndarray:
    """uint8[H, W, 3] → uint8[resolution, resolution, 3] with the antialiased triangle filter, aspect ratio not kept.

    Within one grey level of PIL's BILINEAR, at about a quarter of its time; other threads run meanwhile.
    """
    if image.ndim != 3 or image.shape[2] != 3 or not image.size or image.dtype != np.uint8:
        raise ValueError(f"resize takes uint8[H, W, 3], got {image.dtype}{list(image.shape)}.")
    if image.shape[:2] == (resolution, resolution):
        return image
    from paligax import resampling  # the compiler behind it takes a second to import

    return resampling.resample(image, resolution)
