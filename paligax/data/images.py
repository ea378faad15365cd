"""Images in a task's graph: bytes → uint8 pixels at the run's resolution.

What decodes and resizes is `paligax.image` itself, called from the graph: training, evaluation and serving have one
decoder and one filter. Both run without Python's lock.
"""

import zlib
from collections.abc import Callable

import numpy as np

from paligax import image as image_lib
from paligax.data import runtime
from paligax.data.runtime import seqio, tf


def decode(data: tf.Tensor) -> tf.Tensor:
    """JPEG or PNG bytes, string scalar → uint8[H, W, 3].

    Raises InvalidArgumentError (which costs the stream this one row) on anything else, on bytes cut short, and before
    decoding on a header that claims more than image.MAX_PIXELS.
    """
    return _in_python(lambda data: image_lib.decode(_bytes(data)), [data], None)


def resize(image: tf.Tensor, resolution: int) -> tf.Tensor:
    """uint8[H, W, 3] → uint8[resolution, resolution, 3]: paligax.image.resize itself."""
    return _in_python(lambda pixels: image_lib.resize(pixels, resolution), [image], resolution)


def decode_and_resize(data: tf.Tensor, resolution: int, crc: tf.Tensor | None = None) -> tf.Tensor:
    """JPEG or PNG bytes → uint8[resolution, resolution, 3], aspect ratio not kept: paligax.image.decode_and_resize.

    Where ``crc`` (int64 scalar) is not negative, it must be the bytes' CRC-32: bytes that have changed often decode
    without an error. Raises what ``decode`` raises.
    """

    def made(data: bytes | np.ndarray, crc: int = -1) -> np.ndarray:
        data = _bytes(data)
        if crc >= 0 and zlib.crc32(data) != crc:
            raise ValueError("checksum differs")
        return image_lib.decode_and_resize(data, resolution)

    return _in_python(made, [data] if crc is None else [data, crc], resolution)


def decode_and_crop(data: tf.Tensor, resolution: int, dice: tf.Tensor, crc: tf.Tensor) -> tf.Tensor:
    """JPEG or PNG bytes → uint8[resolution, resolution, 3]: a random part, see paligax.image.decode_and_crop.

    ``dice``: float32[4] in [0, 1); ``crc`` as for ``decode_and_resize``.
    """

    def made(data: bytes | np.ndarray, dice: np.ndarray, crc: int) -> np.ndarray:
        data = _bytes(data)
        if crc >= 0 and zlib.crc32(data) != crc:
            raise ValueError("checksum differs")
        return image_lib.decode_and_crop(data, resolution, dice)

    return _in_python(made, [data, dice, crc], resolution)


def _bytes(data: bytes | np.ndarray) -> bytes:
    return np.asarray(data, object).item()  # outside graphs it comes as an array


def _in_python(function: Callable[..., np.ndarray], inputs: list[tf.Tensor], resolution: int | None) -> tf.Tensor:
    @tf.autograph.experimental.do_not_convert
    def called(*values) -> np.ndarray:
        runtime.keep_thread_state()
        return function(*values)

    result = tf.numpy_function(called, inputs, tf.uint8, stateful=False)
    return tf.ensure_shape(result, (resolution, resolution, 3))


@seqio.map_over_dataset
def feed(example: dict[str, tf.Tensor], sequence_length: dict[str, int]) -> dict[str, tf.Tensor]:
    """Preprocessor: ``image`` bytes → uint8[px, px, 3] at ``sequence_length["image"]`` pixels."""
    return {**example, "image": decode_and_resize(example["image"], sequence_length["image"])}
