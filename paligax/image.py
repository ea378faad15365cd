"""Bytes → pixels and pixels → model input, without TensorFlow.

There is one resize filter, "triangle": bilinear with the support widened by the reduction factor, so that it averages
what it leaves out (PIL's BILINEAR, TensorFlow's antialias=True). Training, evaluation and serving all call ``resize``.
EXIF orientation is ignored, as TensorFlow's decoder does.
"""

import io
import math
import struct
import threading
from collections.abc import Sequence

import numpy as np

# Per image: what a header may claim before it is taken for a decompression bomb. A JPEG's side is below the limit.
MAX_PIXELS, MAX_SIDE = 64_000_000, 65_535
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# A thread decodes into the same memory again and again: new pages for each picture cost half as much as decoding it.
_KEPT_BYTES = 1 << 23  # more is given back
_kept = threading.local()


def size(data: bytes) -> tuple[int, int]:
    """(height, width) as a JPEG's or PNG's header claims; (0, 0) where it is neither or cut short."""
    if data[:8] == _PNG and len(data) >= 24 and data[12:16] == b"IHDR":
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    return _frame(data)[:2]


def components(data: bytes) -> int:
    """Number of a JPEG's colour components as its header claims: 1 grey, 3 colours, 4 CMYK; 0 where it is none."""
    return _frame(data)[2]


def _frame(data: bytes) -> tuple[int, int, int]:
    """Height, width and components of a JPEG's frame header; zeros where there is none."""
    position = 2
    while data[:3] == _JPEG and position + 10 <= len(data):
        if data[position] != 0xFF:  # bytes between segments
            position = data.find(b"\xff", position)
            if position < 0:
                break
            continue
        marker = data[position + 1]
        if marker in _START_OF_FRAME:
            return struct.unpack(">HHB", data[position + 5 : position + 10])
        if marker == 0xFF:  # filling
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no segment behind it
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return 0, 0, 0


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


def reduction(height: int, width: int, resolution: int) -> int:
    """By how much a JPEG is made smaller while it is decoded, before the filter: 8, 4, 2 or 1 (not at all).

    As much as leaves both sides at least 1.5 × resolution. A decoder that computes a quarter of the pixels leaves out
    the higher frequencies, which the filter would average away; what remains differs by about half a grey level.
    """
    smallest = min(height, width)
    return next((by for by in (8, 4, 2) if smallest >= by * 1.5 * resolution), 1)


def decode(data: bytes, resolution: int | None = None) -> np.ndarray:
    """JPEG or PNG bytes → uint8[H, W, 3], with a resolution to come reduced by ``reduction``.

    Raises ValueError or OSError where they are broken, cut or too large.
    """
    _check(data)
    return _decode(data, reduction(*size(data), resolution) if resolution else 1, None)


def _check(data: bytes) -> None:
    if reason := problem(data, decode_it=False):
        raise ValueError(f"{reason}: {len(data)} bytes beginning with {data[:8]!r}, size {size(data)}.")


def _decode(data: bytes, by: int, memory: np.ndarray | None) -> np.ndarray:
    """What ``decode`` says, reduced by a factor that is given, perhaps in ``memory``; its header has been looked at."""
    if data.startswith(_JPEG) and components(data) in (1, 3):
        try:
            return _decode_jpeg(data, by, memory)
        except ValueError as error:
            if "extraneous bytes" not in str(error):  # between segments, where they do no harm: PIL passes over them
                raise
    from PIL import Image

    with Image.open(io.BytesIO(data)) as opened:
        if opened.format == "JPEG":
            opened.draft(None, (opened.width // by, opened.height // by))
        if opened.mode.startswith("I"):  # 16 bits of grey, which PIL would cut off at 255
            return np.repeat((np.asarray(opened).astype(np.uint32) >> 8).astype(np.uint8)[..., None], 3, axis=2)
        return np.array(opened.convert("RGB"))


def _memory(data: bytes, by: int) -> np.ndarray | None:
    """uint8, enough for an image of which this thread needs the pixels until its next one; None where it is large."""
    height, width = size(data)
    needed = 3 * (-(-height // by)) * (-(-width // by))
    if needed > _KEPT_BYTES:
        return None
    kept = getattr(_kept, "memory", None)
    if kept is None or kept.size < needed:
        kept = _kept.memory = np.empty(needed, np.uint8)
    return kept


def _decode_jpeg(data: bytes, by: int, memory: np.ndarray | None) -> np.ndarray:
    """By libjpeg-turbo, without Python's lock. Its arithmetic is of integers: every machine gives the same pixels."""
    import simplejpeg

    try:
        found = simplejpeg.decode_jpeg_header(data, strict=False)[:2]
    except KeyError as error:  # of a header that names no colour model
        raise ValueError("broken image: its header is cut short.") from error
    if found != tuple(size(data)):
        raise ValueError(f"broken image: its header can be read in two ways, one of them {size(data)}.")
    height, width = (-(-side // by) for side in size(data))
    return simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width, buffer=memory)


def decode_and_resize(data: bytes, resolution: int) -> np.ndarray:
    """JPEG or PNG bytes → uint8[resolution, resolution, 3], aspect ratio not kept. Raises what ``decode`` raises."""
    _check(data)
    by = reduction(*size(data), resolution)
    return _resized(_decode(data, by, _memory(data, by)), resolution, size(data))


def _resized(image: np.ndarray, resolution: int, original: Sequence[int] | None = None) -> np.ndarray:
    """``resize``, but never the very memory that the next image will be decoded into."""
    return image.copy() if image.shape[:2] == (resolution, resolution) else resize(image, resolution, original)


def inception_window(height: int, width: int, dice: Sequence[float]) -> tuple[int, int, int, int]:
    """A random part of an image, for training: (top, left, height, width) in pixels.

    Its area is a part of the image's between 0.05 and 1, its width by its height between 3/4 and 4/3 (their logarithm
    is drawn), as far as the image is high and wide enough; every place for it is equally likely (Szegedy et al. 2015,
    section 6; big_vision's inception_crop has the same limits).

    Args:
      dice: four numbers in [0, 1), for area, aspect, top and left.
    """
    area = (0.05 + 0.95 * float(dice[0])) * height * width
    aspect = math.exp((2.0 * float(dice[1]) - 1.0) * math.log(4 / 3))
    rows = min(max(round(math.sqrt(area / aspect)), 1), height)
    columns = min(max(round(math.sqrt(area * aspect)), 1), width)
    return int(float(dice[2]) * (height - rows + 1)), int(float(dice[3]) * (width - columns + 1)), rows, columns


def decode_and_crop(data: bytes, resolution: int, dice: Sequence[float]) -> np.ndarray:
    """JPEG or PNG bytes → uint8[resolution, resolution, 3]: a random part of the image, see ``inception_window``."""
    _check(data)
    top, left, rows, columns = inception_window(*size(data), dice)
    by = reduction(rows, columns, resolution)
    image = _decode(data, by, _memory(data, by))
    part = image[top // by : -(-(top + rows) // by), left // by : -(-(left + columns) // by)]
    return _resized(np.ascontiguousarray(part), resolution)


def resize(image: np.ndarray, resolution: int, original: Sequence[int] | None = None) -> np.ndarray:
    """uint8[H, W, 3] → uint8[resolution, resolution, 3] with the antialiased triangle filter, aspect ratio not kept.

    ``original``: height and width of what ``image`` was reduced from while it was decoded: the last of its pixels may
    be only partly picture. Within one grey level of PIL's BILINEAR, at about a quarter of its time; other threads run
    meanwhile.
    """
    if image.ndim != 3 or image.shape[2] != 3 or not image.size or image.dtype != np.uint8:
        raise ValueError(f"resize takes uint8[H, W, 3], got {image.dtype}{list(image.shape)}.")
    if image.shape[:2] == (resolution, resolution):
        return image
    from paligax import resampling  # the compiler behind it takes a second to import

    if original is None:
        return resampling.resample(image, resolution)
    by = round(original[0] / image.shape[0])  # 301 rows are 151 of two
    return resampling.resample(image, resolution, (float(original[0]) / by, float(original[1]) / by))
