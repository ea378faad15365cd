import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from paligax import image


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def text_image(height=384, width=512, seed=0):
    """Rendered words on a coloured ground: what a resize filter must keep readable."""
    from matplotlib import font_manager
    from PIL import ImageFont

    rng = np.random.default_rng(seed)
    picture = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    draw = ImageDraw.Draw(picture)
    path = font_manager.findfont("DejaVu Sans")
    for line in range(height // 24):
        fill = (0, 0, 0) if line % 2 else (255, 255, 255)
        font = ImageFont.truetype(path, 10 + line)
        left = rng.integers(0, width // 4 + 1)
        draw.text((left, 24 * line), "The quick brown fox jumps over it", fill=fill, font=font)
    return np.asarray(picture)


@pytest.mark.parametrize(
    ("height", "width", "resolution"),
    [(384, 512, 224), (128, 128, 64), (50, 37, 64), (1000, 3, 32), (1, 1, 16), (224, 224, 224), (225, 223, 224)],
)
def test_resize_is_pils_antialiased_bilinear_to_one_grey_level(height, width, resolution):
    pixels = text_image(max(height, 24), width)[:height]
    expected = np.asarray(Image.fromarray(pixels).resize((resolution, resolution), Image.BILINEAR)).astype(int)
    resized = image.resize(pixels, resolution)
    assert resized.dtype == np.uint8 and resized.shape == (resolution, resolution, 3)
    difference = np.abs(resized - expected)
    assert difference.max() <= 1 and difference.mean() <= 0.3


def test_resize_takes_only_rgb_bytes():
    with pytest.raises(ValueError, match="uint8"):
        image.resize(np.zeros((4, 4, 4), np.uint8), 2)
    with pytest.raises(ValueError, match="float32"):
        image.resize(np.zeros((4, 4, 3), np.float32), 2)
    with pytest.raises(ValueError, match=r"\[0, 4, 3\]"):
        image.resize(np.zeros((0, 4, 3), np.uint8), 2)


@pytest.mark.parametrize("options", [{"kind": "PNG"}, {"kind": "JPEG"}, {"kind": "JPEG", "progressive": True}])
def test_headers_give_the_size(options):
    data = encoded(text_image(48, 64), **options)
    assert image.size(data) == (48, 64) and image.problem(data) == ""
    assert image.decode(data).shape == (48, 64, 3)
    assert image.decode_and_resize(data, 16).shape == (16, 16, 3)


@pytest.mark.parametrize("pixels", [np.zeros((4, 5), np.uint8), np.zeros((4, 5, 4), np.uint8), np.zeros((4, 5), bool)])
def test_other_colour_models_become_rgb(pixels):
    assert image.decode(encoded(pixels)).shape == (4, 5, 3)


def test_sixteen_bits_of_grey_become_eight():
    grey = np.linspace(0, 65_535, 48, dtype=np.uint16).reshape(6, 8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    np.testing.assert_array_equal(image.decode(file.getvalue()), np.repeat((grey >> 8)[..., None], 3, 2))


def test_bytes_between_the_segments_do_no_harm():
    jpeg = encoded(text_image(48, 64), "JPEG")
    second = jpeg.index(b"\xff\xdb")
    np.testing.assert_array_equal(image.decode(jpeg[:second] + b"\0\0\0" + jpeg[second:]), image.decode(jpeg))


def test_what_cannot_be_used_is_told():
    jpeg, png = encoded(text_image(48, 64), "JPEG"), encoded(text_image(48, 64))
    bomb = png[:16] + (60000).to_bytes(4, "big") * 2 + png[24:]
    ribbon = png[:16] + (60_000_000).to_bytes(4, "big") + (1).to_bytes(4, "big") + png[24:]
    for data, reason in [
        (b"", "not a JPEG or PNG"),
        (b"GIF89a" + jpeg, "not a JPEG or PNG"),
        (bomb, "image too large"),
        (ribbon, "image too large"),
        (jpeg[: len(jpeg) // 2], "broken image"),
        (jpeg[:4], "broken image"),
        (png[: len(png) // 2], "broken image"),
        (png[:20], "broken image"),
        (b"\xff\xd8\xff" + b"\xff" * 50, "broken image"),
        (b"\xff\xd8\xff\xe0\x00\x00" * 50, "broken image"),
    ]:
        assert image.problem(data) == reason
        with pytest.raises((ValueError, OSError)):
            image.decode(data)


def test_a_random_part_has_the_stated_area_aspect_and_place():
    rng = np.random.default_rng(0)
    parts = np.array([image.inception_window(480, 640, dice) for dice in rng.random((20_000, 4))])
    top, left, rows, columns = parts.T
    assert min(top.min(), left.min()) == 0 and (top + rows).max() == 480 and (left + columns).max() == 640
    area, aspect = rows * columns / (480 * 640), columns / rows
    assert area.min() == pytest.approx(0.05, abs=1e-3) and area.max() > 0.95
    whole = rows < 480  # nothing was cut off
    assert 0.745 < aspect[whole].min() < 0.76 and 1.32 < aspect[whole].max() < 1.345
    assert np.median(area) == pytest.approx(0.525, abs=0.02)
    small = rows < 400
    assert np.mean(top[small] / (480 - rows[small])) == pytest.approx(0.5, abs=0.02)
    assert image.inception_window(1, 1, (0, 0, 0, 0)) == (0, 0, 1, 1)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_random_part_is_that_part_resized(form):
    pixels, dice = text_image(96, 128), (0.2, 0.7, 0.4, 0.9)
    data = encoded(pixels, form)
    top, left, rows, columns = image.inception_window(96, 128, dice)
    expected = image.resize(np.ascontiguousarray(image.decode(data)[top : top + rows, left : left + columns]), 32)
    np.testing.assert_array_equal(image.decode_and_crop(data, 32, dice), expected)
    with pytest.raises(ValueError, match="not a JPEG or PNG"):
        image.decode_and_crop(b"nothing", 32, dice)


def test_a_random_part_of_a_large_jpeg_is_decoded_smaller():
    data, dice = encoded(text_image(960, 1280), "JPEG"), (0.9, 0.5, 0.5, 0.5)
    top, left, rows, columns = image.inception_window(960, 1280, dice)
    assert image.reduction(rows, columns, 64) > 1
    exact = image.resize(np.ascontiguousarray(image.decode(data)[top : top + rows, left : left + columns]), 64)
    found = image.decode_and_crop(data, 64, dice)
    assert np.abs(found.astype(int) - exact).mean() < 3  # the window begins at a pixel of the smaller picture
