import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from paligax import image as image_lib
from paligax.data import images
from paligax.data.runtime import tf


def encoded(pixels, kind):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture
def pixels():
    small = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((400, 300), Image.BICUBIC))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_graph_and_serving_decode_alike(pixels, kind):
    data = encoded(pixels, kind)
    np.testing.assert_array_equal(tf.function(images.decode)(tf.constant(data)), image_lib.decode(data))
    pil = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(image_lib.decode(data) - pil).max() <= 1


@pytest.mark.parametrize("size", [(300, 400), (100, 120), (64, 64), (20, 30)])
def test_graph_and_serving_resize_alike(pixels, size):
    pixels = pixels[: size[0], : size[1]]
    in_graph = tf.function(lambda p: images.resize(p, 64))(tf.constant(pixels))
    assert in_graph.shape == (64, 64, 3) and in_graph.dtype == tf.uint8
    np.testing.assert_array_equal(in_graph, image_lib.resize(pixels, 64))


def test_threads_of_a_pipeline_resize_alike(pixels):
    dataset = tf.data.Dataset.from_tensors(pixels).repeat(40).map(lambda p: images.resize(p, 64), num_parallel_calls=4)
    expected = image_lib.resize(pixels, 64)
    assert all((resized.numpy() == expected).all() for resized in dataset)


def test_the_whole_way_agrees_with_serving(pixels):
    data = encoded(pixels, "JPEG")
    in_graph = tf.function(lambda d: images.decode_and_resize(d, 224))(tf.constant(data))
    np.testing.assert_array_equal(in_graph, image_lib.decode_and_resize(data, 224))


@pytest.mark.parametrize("resolution, by", [(300, 1), (75, 2), (37, 4), (25, 8), (101, 1), (100, 2)])
def test_large_jpegs_are_reduced_alike_while_they_are_decoded(resolution, by):
    ground = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(ground).resize((400, 300), Image.BICUBIC)
    for line in range(10):
        ImageDraw.Draw(picture).text((20 * line, 30 * line), "some words to read", fill="white")
    pixels = np.asarray(picture)
    data = encoded(pixels, "JPEG")
    assert image_lib.decode(data, resolution).shape == (-(-300 // by), -(-400 // by), 3)
    fed = images.decode_and_resize(tf.constant(data), resolution).numpy().astype(int)
    assert np.abs(fed - image_lib.decode_and_resize(data, resolution)).max() <= 1
    assert np.abs(fed - image_lib.resize(image_lib.decode(data), resolution)).mean() <= 1
    png = images.decode_and_resize(tf.constant(encoded(pixels, "PNG")), resolution)
    np.testing.assert_array_equal(png, image_lib.resize(pixels, resolution))


def test_changed_bytes_are_told_by_their_checksum(pixels):
    data = encoded(pixels, "JPEG")
    changed = data[:-200] + bytes([data[-200] ^ 1]) + data[-199:]
    crc = tf.constant(zlib.crc32(data), tf.int64)
    right = images.decode_and_resize(tf.constant(data), 64, crc)
    np.testing.assert_array_equal(right, images.decode_and_resize(tf.constant(data), 64))
    images.decode_and_resize(tf.constant(changed), 64)  # decodes
    images.decode_and_resize(tf.constant(changed), 64, tf.constant(-1, tf.int64))
    with pytest.raises((ValueError, tf.errors.OpError), match="checksum differs"):
        images.decode_and_resize(tf.constant(changed), 64, crc)


def test_grey_pictures_get_three_channels(pixels):
    assert images.decode(tf.constant(encoded(pixels[..., 0], "PNG"))).shape == (300, 400, 3)
    assert images.decode(tf.constant(encoded(pixels[..., 0], "JPEG"))).shape == (300, 400, 3)


def test_what_cannot_be_used_raises_before_it_is_decoded(pixels):
    png, jpeg = encoded(pixels, "PNG"), encoded(pixels, "JPEG")
    bomb = png[:16] + (60000).to_bytes(4, "big") * 2 + png[24:]
    ribbon = png[:16] + (60_000_000).to_bytes(4, "big") + (1).to_bytes(4, "big") + png[24:]
    for data in (b"", b"GIF89a" + jpeg, bomb, jpeg[: len(jpeg) // 2], png[: len(png) // 2], png[:20]):
        with pytest.raises((ValueError, OSError, tf.errors.OpError)):
            images.decode(tf.constant(data))
    for data in (bomb, ribbon):
        with pytest.raises(ValueError, match="too large"):
            images.decode(tf.constant(data))
