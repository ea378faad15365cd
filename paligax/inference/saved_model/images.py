"""``paligax.image.decode_and_resize`` in TensorFlow's operations: the same filter in float32, to one grey level."""

from typing import Any

import tensorflow as tf

from paligax.image import MAX_PIXELS

_PNG = b"\x89PNG\r\n\x1a\n"
_REDUCTIONS = (1, 2, 4, 8)  # of a JPEG while it is decoded, see paligax.image.reduction


def decode_and_resize(data: Any, side: int) -> tuple[Any, Any]:
    """Image bytes, string[B], "" where there is no image → uint8[B, side, side, 3] and bool[B]: whether there is one.

    JPEGs and PNGs are read; what is broken, too large or something else fails the whole call, as an operation of
    TensorFlow's fails.
    """
    there = tf.strings.length(data) > 0
    nothing = tf.zeros((side, side, 3), tf.uint8)

    def one(bytes_: Any) -> Any:
        return tf.cond(tf.strings.length(bytes_) > 0, lambda: _one(bytes_, side), lambda: nothing)

    signature = tf.TensorSpec((side, side, 3), tf.uint8)
    return tf.map_fn(one, data, fn_output_signature=signature), there


def _one(data: Any, side: int) -> Any:
    """string[] → uint8[side, side, 3]."""
    return tf.cond(tf.equal(tf.strings.substr(data, 0, 8), _PNG), lambda: _png(data, side), lambda: _jpeg(data, side))


def _png(data: Any, side: int) -> Any:
    # Width and height stand at byte 16 of the header, big-endian.
    claimed = tf.io.decode_raw(tf.strings.substr(data, 16, 8), tf.int32, little_endian=False)
    with tf.control_dependencies([_require_size(claimed[1], claimed[0])]):
        image = tf.io.decode_png(data, channels=3)
    size = tf.shape(image)
    return resize(image, side, tf.cast(size[:2], tf.float64))


def _jpeg(data: Any, side: int) -> Any:
    size = tf.io.extract_jpeg_shape(data)[:2]
    with tf.control_dependencies([_require_size(size[0], size[1])]):
        smallest = tf.cast(tf.reduce_min(size), tf.float64)
    chosen = tf.add_n([tf.cast(smallest >= by * 1.5 * side, tf.int32) for by in _REDUCTIONS[1:]])

    def decode(by: int) -> Any:
        return tf.io.decode_jpeg(data, 3, ratio=by, fancy_upscaling=True, dct_method="INTEGER_ACCURATE")

    image = tf.switch_case(chosen, [lambda by=by: decode(by) for by in _REDUCTIONS])
    # Where the size is no multiple of the reduction, the last pixel is only partly picture.
    by = tf.cast(tf.gather(_REDUCTIONS, chosen), tf.float64)
    return resize(image, side, tf.cast(size, tf.float64) / by)


def _require_size(height: Any, width: Any) -> Any:
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    return tf.debugging.assert_less_equal(pixels, tf.constant(MAX_PIXELS, tf.int64), "image too large")


def resize(image: Any, side: int, extent: Any) -> Any:
    """uint8[H, W, 3] → uint8[side, side, 3] with the antialiased triangle filter of ``paligax.resampling``.

    Args:
      image: any size.
      side: in px.
      extent: float64[2], how much of height and width is picture.
    """
    size = tf.shape(image)
    down, across = triangle(size[0], extent[0], side), triangle(size[1], extent[1], side)
    pixels = tf.cast(image, tf.float32)
    rows = tf.matmul(down, tf.reshape(pixels, (size[0], size[1] * 3)))
    both = tf.matmul(across, tf.reshape(rows, (side, size[1], 3)))  # for each row: [side, W] · [W, 3]
    return tf.cast(tf.clip_by_value(tf.floor(both + 0.5), 0.0, 255.0), tf.uint8)


def triangle(size_in: Any, extent: Any, side: int) -> Any:
    """The filter of ``paligax.resampling.triangle`` as a matrix, float32[side, size_in]."""
    scale = extent / side
    support = tf.maximum(scale, 1.0)
    centre = (tf.range(side, dtype=tf.float64) + 0.5)[:, None] * scale
    start = tf.maximum(tf.floor(centre - support + 0.5), 0.0)
    end = tf.minimum(tf.floor(centre + support + 0.5), tf.cast(size_in, tf.float64))
    position = tf.range(tf.cast(size_in, tf.float64), dtype=tf.float64)
    weights = tf.nn.relu(1.0 - tf.abs((position + 0.5 - centre) / support))
    weights = tf.where((position < start) | (position >= end), tf.zeros_like(weights), weights)
    return tf.cast(weights / tf.reduce_sum(weights, axis=1, keepdims=True), tf.float32)
