import os
import subprocess
import sys

import numpy as np
import pytest

from paligax import resampling

SIZES = [(512, 224), (384, 224), (37, 64), (1, 16), (3, 5), (224, 224), (9, 1), (65_535, 7)]


def matrix(size_in, size_out):
    first, weights = resampling.triangle(size_in, size_out)
    dense = np.zeros((size_out, size_in))
    for row, start, taps in zip(dense, first, weights, strict=True):
        row[start : start + len(taps)] = taps
    return dense


@pytest.mark.parametrize(("size_in", "size_out"), SIZES)
def test_the_triangles_weights_are_symmetric_and_sum_to_one(size_in, size_out):
    dense = matrix(size_in, size_out)
    np.testing.assert_allclose(dense.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(dense, dense[::-1, ::-1], atol=1e-6)
    assert dense.min() >= 0


def test_a_reduction_by_two_has_the_textbooks_weights():
    np.testing.assert_allclose(matrix(8, 4)[1], np.array([0, 1, 3, 3, 1, 0, 0, 0]) / 8, rtol=1e-6)


@pytest.mark.parametrize("height", [1, 5, 50, 300])
@pytest.mark.parametrize("width", [1, 7, 250])
@pytest.mark.parametrize("resolution", [1, 8, 31, 33, 100])
def test_the_compiled_loops_are_the_two_matrix_products(height, width, resolution):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    exact = np.einsum("yh,hwc,xw->yxc", matrix(height, resolution), image, matrix(width, resolution), optimize=True)
    resampled = resampling.resample(image, resolution)
    assert resampled.shape == (resolution, resolution, 3) and resampled.dtype == np.uint8
    assert np.abs(resampled - exact).max() < 0.501  # rounding alone


def test_views_and_read_only_images_are_taken():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    view = image[::-1, 5:40]
    view.setflags(write=False)
    np.testing.assert_array_equal(resampling.resample(view, 16), resampling.resample(view.copy(), 16))


@pytest.mark.parametrize("trouble", ["nowhere to write", pytest.param("damaged", marks=pytest.mark.slow)])
def test_a_cache_that_cannot_be_used_costs_only_time(tmp_path, trouble):
    image = "numpy.full((9, 9, 3), 7, numpy.uint8)"
    program = f"import numpy; from paligax import resampling; print(resampling.resample({image}, 4).sum())"
    places = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    if trouble == "nowhere to write":
        (tmp_path / "cache").write_text("")  # a file where the directory should be
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ | places, capture_output=True, text=True, timeout=120
        )
        assert done.stdout == f"{4 * 4 * 3 * 7}\n", done.stderr
        for file in (tmp_path / "cache").rglob("*.nb?"):
            file.write_bytes(b"damaged")
