"""Images in a task's graph: bytes → uint8 pixels at the run's resolution."""

import functools
import math
import zlib
from collections.abc import Callable

import numpy as np

from paligax import image as image_lib
from paligax.data import runtime
from paligax.data.runtime import seqio, tf

_REDUCTIONS = (1, 2, 4, 8)
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def decode(data: tf.Tensor) -> tf.Tensor:
    """JPEG or PNG bytes, string scalar → uint8[H, W, 3].

    Raises InvalidArgumentError (which costs the stream this one row) on anything else, on bytes cut short, and before
    decoding on a header that claims more than image.MAX_PIXELS.
    """
    sides, _ = _checked_header(data)
    with tf.control_dependencies([sides]):
        return _decoded(data, 1)


def resize(image: tf.Tensor, resolution: int) -> tf.Tensor:
    """uint8[H, W, 3] → uint8[resolution, resolution, 3]: paligax.image.resize itself."""

    @tf.autograph.experimental.do_not_convert
    def resized(pixels: np.ndarray) -> np.ndarray:
        runtime.keep_thread_state()
        return image_lib.resize(pixels, resolution)

    return _in_python(resized, [image], resolution)


def decode_and_resize(data: tf.Tensor, resolution: int, crc: tf.Tensor | None = None) -> tf.Tensor:
    """JPEG or PNG bytes → uint8[resolution, resolution, 3], aspect ratio not kept.

    A large JPEG is reduced while it is decoded (image.reduction). Where ``crc`` (int64 scalar) is not negative, it must
    be the bytes' CRC-32: bytes that have changed often decode without an error. Raises what ``decode`` raises.
    """
    sides, is_png = _checked_header(data)
    with tf.control_dependencies([sides]):
        # How often image.reduction halves: the number of these limits that the shorter side reaches.
        limits = tf.constant([math.ceil(by * 1.5 * resolution) for by in _REDUCTIONS[1:]], tf.int64)
        halved = tf.reduce_sum(tf.cast(tf.reduce_min(sides) >= limits, tf.int32))
        ways = [functools.partial(_decoded, data, by) for by in _REDUCTIONS]
        image = tf.switch_case(tf.where(is_png, 0, halved), ways)

    @tf.autograph.experimental.do_not_convert
    def resized(pixels: np.ndarray, sides: np.ndarray, data: bytes = b"", crc: int = -1) -> np.ndarray:
        runtime.keep_thread_state()
        if crc >= 0 and zlib.crc32(np.asarray(data, object).item()) != crc:  # outside graphs it comes as an array
            raise ValueError("checksum differs")
        return image_lib.resize(pixels, resolution, sides)

    return _in_python(resized, [image, sides] if crc is None else [image, sides, data, crc], resolution)


def _checked_header(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """int64[2], height and width, which fails where they are too large or it isn't an image; whether it is a PNG."""
    magic = tf.strings.substr(data, 0, 3)
    is_png = magic == _PNG[:3]
    known = tf.raw_ops.Assert(condition=is_png | (magic == _JPEG), data=["not a JPEG or PNG"])
    with tf.control_dependencies([known]):
        shape = tf.cond(is_png, lambda: _png_shape(data), lambda: tf.io.extract_jpeg_shape(data, tf.int64))
    sides = tf.slice(shape, [0], [2])
    small = (tf.reduce_prod(sides) <= image_lib.MAX_PIXELS) & (tf.reduce_max(sides) <= image_lib.MAX_SIDE)
    with tf.control_dependencies([tf.raw_ops.Assert(condition=small, data=["image too large", sides])]):
        return tf.identity(sides), is_png


def _decoded(data: tf.Tensor, by: int) -> tf.Tensor:
    """Reads PNG as well, if it isn't to be reduced."""
    image = tf.io.decode_jpeg(data, channels=3, ratio=by, dct_method="INTEGER_ACCURATE")
    return tf.ensure_shape(image, (None, None, 3))


def _in_python(function: Callable[..., np.ndarray], inputs: list[tf.Tensor], resolution: int) -> tf.Tensor:
    result = tf.numpy_function(function, inputs, tf.uint8, stateful=False)
    return tf.ensure_shape(result, (resolution, resolution, 3))


def _png_shape(data: tf.Tensor) -> tf.Tensor:
    """int64[3]: height, width and the three channels that it is decoded to."""
    size = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False)  # width, height
    return tf.cast(tf.concat([tf.reverse(size, [0]), [3]], axis=0), tf.int64)


@seqio.map_over_dataset
def feed(example: dict[str, tf.Tensor], sequence_length: dict[str, int]) -> dict[str, tf.Tensor]:
    """Preprocessor: ``image`` bytes → uint8[px, px, 3] at ``sequence_length["image"]`` pixels."""
    return {**example, "image": decode_and_resize(example["image"], sequence_length["image"])}
