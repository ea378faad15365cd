"""The one resize filter's inner loops, compiled: they run without Python's lock, in the memory of a few rows.

Both passes are weighted sums of whole rows, which the compiler turns into vector instructions; between them a strip of
the picture is turned, so that columns are rows too. Additions are made in one order and never contracted: every
machine gives the same pixels.
"""

import functools
from collections.abc import Callable, Sequence

import numba
import numpy as np

_STRIP = 32  # rows of the result made at a time: what they need stays in the second-level cache
_GROUP = 8  # rows turned at a time: as many as the compiler interleaves in registers


@functools.lru_cache(maxsize=4096)
def triangle(size_in: int, size_out: int, extent: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The triangle filter: (first, int64[size_out]; weights, float32[size_out, taps]).

    Result ``i`` is Σₖ weights[i, k] · input[first[i] + k]. The support is widened by the reduction factor, pixel
    centres lie at half integers, and the weights, which end at the edges, sum to 1: PIL's BILINEAR. ``extent`` is how
    much of the input is picture: all of it, or up to one less where a decoder filled up its last pixel.
    """
    scale = (extent or size_in) / size_out
    support = max(scale, 1.0)
    centre = (np.arange(size_out) + 0.5) * scale
    start = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + support + 0.5).astype(np.int64), size_in)
    taps = int((end - start).max())
    first = np.minimum(start, size_in - taps)
    position = first[:, None] + np.arange(taps)
    weights = np.maximum(0.0, 1.0 - np.abs((position + 0.5 - centre[:, None]) / support))
    weights[(position < start[:, None]) | (position >= end[:, None])] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return first, weights.astype(np.float32)


def resample(image: np.ndarray, resolution: int, extent: Sequence[float | None] = (None, None)) -> np.ndarray:
    """uint8[H, W, 3] → uint8[resolution, resolution, 3]; see paligax.image.resize."""
    height, width, channels = image.shape
    down, across = triangle(height, resolution, extent[0]), triangle(width, resolution, extent[1])
    rows = np.ascontiguousarray(image).reshape(height, width * channels)
    result = np.empty((resolution, channels * resolution), np.uint8)
    _compiled()(rows, *down, *across, result)
    return result.reshape(resolution, resolution, channels)


@functools.cache
def _compiled() -> Callable[..., None]:
    """``_resample`` as machine code, kept on disk between processes where there is a place for it."""
    pixels = numba.types.Array(numba.uint8, 2, "C", readonly=True)
    filters = (numba.int64[::1], numba.float32[:, ::1])
    signature = numba.void(pixels, *filters, *filters, numba.uint8[:, ::1])
    try:
        return numba.njit(signature, nogil=True, cache=True)(_resample)
    except Exception:  # noqa: BLE001  no place to write, a full disk, a damaged file: the cache is all that is lost
        return numba.njit(signature, nogil=True)(_resample)


@numba.njit(nogil=True, inline="always")
def _weighted_sum(rows, first, weights, result):
    """result[i] = Σₖ weights[k] · rows[first + k, i]."""
    row, weight = rows[first], weights[0]
    for i in range(result.size):
        result[i] = weight * np.float32(row[i])
    for k in range(1, weights.size):
        row, weight = rows[first + k], weights[k]
        for i in range(result.size):
            result[i] += weight * np.float32(row[i])


@numba.njit(nogil=True, inline="always")
def _turn(lines, turned, left):
    """turned[i, left + d] = lines[d, i] for d below _GROUP, in a form that the compiler interleaves."""
    a, b, c, d, e, f, g, h = lines[0], lines[1], lines[2], lines[3], lines[4], lines[5], lines[6], lines[7]
    for i in range(a.size):
        to = turned[i, left : left + _GROUP]
        to[0], to[1], to[2], to[3], to[4], to[5], to[6], to[7] = a[i], b[i], c[i], d[i], e[i], f[i], g[i], h[i]


def _resample(image, first_row, row_weights, first_column, column_weights, result):
    """uint8[H, W·3] → uint8[R, R·3], by way of strips of float32."""
    size, resolution = image.shape[1], result.shape[0]
    lines = np.empty((_GROUP, size), np.float32)
    turned = np.empty((size, _STRIP), np.float32)
    columns = turned.reshape(size // 3, 3 * _STRIP)
    total = np.empty(3 * _STRIP, np.float32)
    rounded = np.empty((resolution, 3 * _STRIP), np.uint8)
    for top in range(0, resolution, _STRIP):
        count = min(_STRIP, resolution - top)
        for left in range(0, count, _GROUP):
            for d in range(min(_GROUP, count - left)):
                y = top + left + d
                _weighted_sum(image, first_row[y], row_weights[y], lines[d])
            _turn(lines, turned, left)
        for x in range(resolution):
            _weighted_sum(columns, first_column[x], column_weights[x], total)
            to = rounded[x]
            for i in range(3 * _STRIP):
                to[i] = np.uint8(total[i] + np.float32(0.5))
        across = rounded.reshape(3 * resolution, _STRIP)
        for d in range(count):
            row = result[top + d]
            for i in range(row.size):
                row[i] = across[i, d]
