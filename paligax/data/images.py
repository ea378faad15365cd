"""Images in a task's graph: bytes → uint8 pixels at the run's resolution."""

import numpy as np

from paligax import image as image_lib
from paligax.data import runtime
from paligax.data.runtime import seqio, tf

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def decode(data: tf.Tensor) -> tf.Tensor:
    """JPEG or PNG bytes, string scalar → uint8[H, W, 3].

    Raises InvalidArgumentError (which costs the stream this one row) on anything else, on bytes cut short, and before
    decoding on a header that claims more than image.MAX_PIXELS.
    """
    magic = tf.strings.substr(data, 0, 3)
    is_png = magic == _PNG[:3]
    known = tf.raw_ops.Assert(condition=is_png | (magic == _JPEG), data=["not a JPEG or PNG"])
    with tf.control_dependencies([known]):
        shape = tf.cond(is_png, lambda: _png_shape(data), lambda: tf.io.extract_jpeg_shape(data, tf.int64))
    sides = tf.slice(shape, [0], [2])
    small = (tf.reduce_prod(sides) <= image_lib.MAX_PIXELS) & (tf.reduce_max(sides) <= image_lib.MAX_SIDE)
    small = tf.raw_ops.Assert(condition=small, data=["image too large", sides])
    with tf.control_dependencies([small]):
        image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")  # reads PNG as well
    return tf.ensure_shape(image, (None, None, 3))


def resize(image: tf.Tensor, resolution: int) -> tf.Tensor:
    """uint8[H, W, 3] → uint8[resolution, resolution, 3]: paligax.image.resize itself."""

    @tf.autograph.experimental.do_not_convert
    def resized(pixels: np.ndarray) -> np.ndarray:
        runtime.keep_thread_state()
        return image_lib.resize(pixels, resolution)

    result = tf.numpy_function(resized, [image], tf.uint8, stateful=False)
    return tf.ensure_shape(result, (resolution, resolution, 3))


def decode_and_resize(data: tf.Tensor, resolution: int) -> tf.Tensor:
    """JPEG or PNG bytes → uint8[resolution, resolution, 3], aspect ratio not kept."""
    return resize(decode(data), resolution)


def _png_shape(data: tf.Tensor) -> tf.Tensor:
    """int64[3]: height, width and the three channels that it is decoded to."""
    size = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False)  # width, height
    return tf.cast(tf.concat([tf.reverse(size, [0]), [3]], axis=0), tf.int64)


@seqio.map_over_dataset
def feed(example: dict[str, tf.Tensor], sequence_length: dict[str, int]) -> dict[str, tf.Tensor]:
    """Preprocessor: ``image`` bytes → uint8[px, px, 3] at ``sequence_length["image"]`` pixels."""
    return {**example, "image": decode_and_resize(example["image"], sequence_length["image"])}
