"""The SavedModel's pixels are those of paligax.image, to one grey level."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from paligax import image as image_lib
from paligax import resampling
from paligax.inference.saved_model import images


def encoded(height, width, form, mode="RGB"):
    rng = np.random.default_rng(height * width)
    smooth = rng.integers(0, 256, (4, 5, 4), np.uint8)
    picture = Image.fromarray(smooth, "RGBA").resize((width, height), Image.BICUBIC).convert(mode)
    data = io.BytesIO()
    picture.save(data, form)
    return data.getvalue()


@pytest.mark.parametrize(
    "height, width, form, mode",
    [
        (48, 48, "png", "RGB"),
        (301, 200, "png", "RGBA"),
        (20, 500, "png", "L"),
        (90, 70, "png", "P"),
        (47, 49, "jpeg", "RGB"),  # as it is
        (145, 301, "jpeg", "RGB"),  # reduced by 2, sides no multiples
        (403, 290, "jpeg", "L"),  # by 4
        (1001, 701, "jpeg", "RGB"),  # by 8
    ],
)
def test_pixels_are_within_a_grey_level(height, width, form, mode):
    data = encoded(height, width, form, mode)
    want = image_lib.decode_and_resize(data, 48).astype(int)
    found, there = images.decode_and_resize(tf.constant([b"", data]), 48)
    difference = np.abs(found[1].numpy() - want)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01
    assert there.numpy().tolist() == [False, True] and not found[0].numpy().any()


@pytest.mark.parametrize("size_in, extent, side", [(7, None, 12), (500, None, 48), (151, 150.5, 48), (48, None, 48)])
def test_the_filter_is_the_same_matrix(size_in, extent, side):
    first, weights = resampling.triangle(size_in, side, extent)
    want = np.zeros((side, size_in), np.float32)
    for i, (start, row) in enumerate(zip(first, weights, strict=True)):
        want[i, start : start + len(row)] = row
    found = images.triangle(size_in, tf.constant(float(extent or size_in), tf.float64), side)
    np.testing.assert_allclose(found, want, atol=1e-7)


def test_what_is_no_image_fails():
    for data in (b"GIF89a", encoded(40, 40, "jpeg")[:300], encoded(40, 40, "png")[:30]):
        with pytest.raises(tf.errors.OpError):
            images.decode_and_resize(tf.constant([data]), 48)
    bomb = bytearray(encoded(40, 40, "png"))
    bomb[16:24] = (30_000).to_bytes(4, "big") * 2
    with pytest.raises(tf.errors.InvalidArgumentError, match="image too large"):
        images.decode_and_resize(tf.constant([bytes(bomb)]), 48)
