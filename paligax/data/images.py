"""Images in a task's graph: bytes → uint8 pixels at the run's resolution."""

import seqio

from paligax import image as image_lib
from paligax.data.runtime import tf

SMALL = 40_000  # pixels, up to which TensorFlow's resize is the faster one


def decode(data: tf.Tensor) -> tf.Tensor:
    """JPEG or PNG bytes, string scalar → uint8[H, W, 3].

    Raises InvalidArgumentError (which costs the stream this one row) on anything else, on bytes cut short, and before
    decoding on a header that claims more than image.MAX_PIXELS.
    """
    is_png = tf.strings.substr(data, 0, 8) == b"\x89PNG\r\n\x1a\n"
    is_jpeg = tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff"
    with tf.control_dependencies([tf.debugging.Assert(is_png | is_jpeg, ["not a JPEG or PNG"])]):
        shape = tf.cond(is_png, lambda: _png_shape(data), lambda: tf.io.extract_jpeg_shape(data)[:2])
    pixels = tf.reduce_prod(tf.cast(shape, tf.int64))
    with tf.control_dependencies([tf.debugging.Assert(pixels <= image_lib.MAX_PIXELS, ["image too large", shape])]):
        image = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")  # reads PNG as well
    return tf.ensure_shape(image, (None, None, 3))


def resize(image: tf.Tensor, resolution: int) -> tf.Tensor:
    """uint8[H, W, 3] → uint8[resolution, resolution, 3]: the triangle filter of paligax.image.resize.

    Large images go to that very function, which is faster than TensorFlow's kernel; small ones stay in the graph, where
    TensorFlow's own triangle costs less than a call into Python. The two agree to one grey level, by rounding.
    """

    def small() -> tf.Tensor:
        scale = resolution / tf.cast(tf.shape(image)[:2], tf.float32)
        resized = tf.raw_ops.ScaleAndTranslate(
            images=image[None],
            size=[resolution, resolution],
            scale=scale,
            translation=[0.0, 0.0],
            kernel_type="triangle",
            antialias=True,
        )
        return tf.cast(resized[0] + 0.5, tf.uint8)

    def large() -> tf.Tensor:
        return tf.numpy_function(lambda pixels: image_lib.resize(pixels, resolution), [image], tf.uint8, stateful=False)

    resized = tf.cond(tf.size(image) <= 3 * SMALL, small, large)
    return tf.ensure_shape(resized, (resolution, resolution, 3))


def decode_and_resize(data: tf.Tensor, resolution: int) -> tf.Tensor:
    """JPEG or PNG bytes → uint8[resolution, resolution, 3], aspect ratio not kept."""
    return resize(decode(data), resolution)


def _png_shape(data: tf.Tensor) -> tf.Tensor:
    octets = tf.cast(tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.uint8), tf.int32)  # width, height, big-endian
    width, height = tf.unstack(tf.linalg.matvec(tf.reshape(octets, (2, 4)), [1 << 24, 1 << 16, 1 << 8, 1]))
    return tf.stack([height, width])


@seqio.map_over_dataset
def feed(example: dict[str, tf.Tensor], sequence_length: dict[str, int]) -> dict[str, tf.Tensor]:
    """Preprocessor: ``image`` bytes → uint8[px, px, 3] at ``sequence_length["image"]`` pixels."""
    return {**example, "image": decode_and_resize(example["image"], sequence_length["image"])}
