"""Hashes of images, to be asked for near ones."""

import itertools

import numpy as np


class HashIndex:
    """Hashes that can be asked for the nearest within a Hamming distance of both halves.

    The coarse half's bits are cut into bands. Where two hashes differ in at most r bits, they differ in at most
    r // bands of one band at least (the pigeonhole principle): so each band is looked up as it is and with every choice
    of so few bits turned over, and only what is found there is compared (multi-index
    hashing: Norouzi et al. 2012). Exact, and 40 bytes a hash; of thirty million hashes, some thousands are compared.

    Args:
      hashes: uint64[n, 2], n < 2³²: coarse and fine half.
      radius: the largest distance of the coarse halves that counts, 0 to 20.
      fine_radius: that of the fine halves.
    """

    def __init__(self, hashes: np.ndarray, radius: int, fine_radius: int):
        if not 0 <= radius <= 20:
            raise ValueError(f"radius = {radius}; expected 0 to 20 of 64 bits: beyond, everything is near something.")
        self._coarse, self._fine = np.ascontiguousarray(hashes.T)
        self._radius, self._fine_radius = radius, fine_radius
        count = max(3, radius // 3 + 1)  # so that at most two bits of a band are turned over
        edges = [64 * i // count for i in range(count + 1)]
        self._bands = []
        for low, high in itertools.pairwise(edges):
            values = _band(self._coarse, low, high)
            order = np.argsort(values, kind="stable").astype(np.uint32)
            few = range(radius // count + 1)
            turned = [
                sum(1 << bit for bit in bits) for k in few for bits in itertools.combinations(range(high - low), k)
            ]
            self._bands.append((low, high, values[order], order, np.array(turned, np.uint32)))

    def nearest(self, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """asked uint64[m, 2] → (number of the nearest hash int64[m], -1: none is near; the coarse halves' distance).

        Of several at one distance, the first.
        """
        coarse, fine = asked.T
        size = max(1, len(self._coarse))
        best = np.full(len(coarse), 65 * size, np.int64)  # distance · size + number
        for low, high, values, order, turned in self._bands:
            wanted = (_band(coarse, low, high)[:, None] ^ turned).ravel()
            start, end = np.searchsorted(values, wanted, "left"), np.searchsorted(values, wanted, "right")
            found = end - start
            probe = np.repeat(np.arange(len(wanted)), found)
            within = np.arange(len(probe)) - np.repeat(np.cumsum(found) - found, found)
            number = order[start[probe] + within].astype(np.int64)
            rows = probe // len(turned)
            distance = np.bitwise_count(self._coarse[number] ^ coarse[rows]).astype(np.int64)
            fine_distance = np.bitwise_count(self._fine[number] ^ fine[rows])
            near = (distance <= self._radius) & (fine_distance <= self._fine_radius)
            np.minimum.at(best, rows[near], distance[near] * size + number[near])
        none = best == 65 * size
        return np.where(none, -1, best % size), np.where(none, -1, best // size)


def _band(hashes: np.ndarray, low: int, high: int) -> np.ndarray:
    """uint32[n]: bits ``low`` up to ``high`` of uint64[n]."""
    return (hashes >> np.uint64(low)).astype(np.uint32) & np.uint32((1 << (high - low)) - 1)
