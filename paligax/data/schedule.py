"""Which example stands at a position of the stream: closed forms, nothing stored, nothing drawn.

    position ──(blocks of exact counts)──► (task, k) ──(epoch permutation)──► index entry of the task
                                             └──(hash)──► the example's own random seed

All of it is integer arithmetic of our own, so that it does not change with a library's version.
"""

import fractions
import functools
import hashlib
import math
from collections.abc import Mapping

import numpy as np

MAX_BLOCK = 1 << 16
_ROUNDS = 8


def key(*parts: str | int) -> np.uint64:
    """A 64-bit key of names and numbers."""
    digest = hashlib.sha256("\0".join(str(part) for part in parts).encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little"))


def mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer (Steele et al. 2014): uint64 → uint64, a bijection with full avalanche."""
    x = np.asarray(x, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Order:
    """Every task's own order: (task, k) → index entry and seed, elementwise.

    Args:
      sizes: task name → number of its index entries. Epoch e of a task is its k in [e·size, (e+1)·size): one
        permutation of the index each, another in every epoch.
      seed: decides the permutations and the examples' seeds.
      shuffle: False leaves the index as it is.
    """

    def __init__(self, sizes: Mapping[str, int], seed: int, shuffle: bool):
        self._sizes = np.array(list(sizes.values()), np.int64)
        self._order_keys = np.array([key("epoch", seed, name) for name in sizes], np.uint64)
        self._seed_keys = np.array([key("example", seed, name) for name in sizes], np.uint64)
        self._shuffle = shuffle

    def entries(self, task: np.ndarray, k: np.ndarray) -> np.ndarray:
        """task int64[n], k int64[n] → index entries int64[n]."""
        sizes = self._sizes[task]
        epoch, inside = k // sizes, k % sizes
        if not self._shuffle:
            return inside
        return permute(inside, sizes, mix(self._order_keys[task] + epoch.astype(np.uint64)))

    def seeds(self, task: np.ndarray, k: np.ndarray) -> np.ndarray:
        """task int64[n], k int64[n] → int32[n, 2]: the examples' seeds, for stateless random ops."""
        return mix(mix(k.astype(np.uint64)) ^ self._seed_keys[task])[:, None].view(np.int32)


def permute(k: np.ndarray, sizes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """k int64[n] in [0, sizes) → their images under the permutation of [0, sizes) that the keys (uint64[n]) name.

    A Feistel network over the next even number of bits; a value that falls outside is sent through again (cycle
    walking), which ends inside after less than four rounds on average.
    """
    bits = np.frexp(np.maximum(sizes - 1, 1).astype(np.float64))[1].astype(np.uint64)  # bit length
    half = (bits + np.uint64(1)) // np.uint64(2)
    low = (np.uint64(1) << half) - np.uint64(1)
    rounds = mix(mix(np.arange(_ROUNDS, dtype=np.uint64)) ^ keys[:, None])  # [n, rounds]
    result = np.array(k, np.uint64)
    walking = np.arange(len(result))
    while len(walking):
        h, mask, own = half[walking], low[walking], rounds[walking]
        left, right = result[walking] >> h, result[walking] & mask
        for number in range(_ROUNDS):
            left, right = right, left ^ (mix(right ^ own[:, number]) & mask)
        result[walking] = (left << h) | right
        walking = walking[result[walking] >= sizes[walking].astype(np.uint64)]
    return result.astype(np.int64)


class Schedule:
    """Mixture: position → (task, k). In each block every task has its exact count; its order is shuffled by the seed.

    Args:
      rates: task name → rate, any positive numbers. The block's counts are the smallest integers in these proportions
        (the paper's eight rates make 783 positions); where that takes more than 65,536 positions, the nearest counts
        that sum to 65,536.
      seed: decides the order inside the blocks.

    The block does not depend on the batch size.
    """

    def __init__(self, rates: Mapping[str, float], seed: int):
        bad = {name: rate for name, rate in rates.items() if not rate > 0 or not math.isfinite(rate)}
        if bad or not rates:
            raise ValueError(f"Mixture rates must be positive numbers, got {bad or 'none'}. Leave a task out instead.")
        self.names = tuple(rates)
        self.counts = _counts([rates[name] for name in self.names])
        self.block_size = int(self.counts.sum())
        self._seed = seed
        self._of_blocks = functools.lru_cache(maxsize=8)(self._shuffled)

    def _shuffled(self, blocks: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """[blocks, positions] twice: the task of each position, and how many of that task come before it there."""
        keys = np.array([key("block", self._seed, block) for block in blocks], np.uint64)
        random = mix(mix(np.arange(self.block_size, dtype=np.uint64)) ^ keys[:, None])
        tasks = np.repeat(np.arange(len(self.counts)), self.counts)[np.argsort(random, axis=1, kind="stable")]
        before = np.empty_like(tasks)
        for task in range(len(self.counts)):
            chosen = tasks == task
            before[chosen] = np.cumsum(chosen, axis=1)[chosen] - 1
        return tasks, before

    def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """positions int64[n] → (task int64[n], k int64[n]): the k-th example of that task in the whole run."""
        blocks, which = np.unique(positions // self.block_size, return_inverse=True)
        tasks, before = (of_blocks[which, positions % self.block_size] for of_blocks in self._of_blocks(tuple(blocks)))
        return tasks, blocks[which] * self.counts[tasks] + before


def _counts(rates: list[float]) -> np.ndarray:
    exact = [fractions.Fraction(str(rate)) for rate in rates]
    scale = math.lcm(*(f.denominator for f in exact))
    counts = [int(f * scale) for f in exact]
    divisor = math.gcd(*counts)
    counts = [count // divisor for count in counts]
    if sum(counts) > MAX_BLOCK:
        shares = [count * MAX_BLOCK / sum(counts) for count in counts]
        floors = [max(1, math.floor(share)) for share in shares]
        by_rest = sorted(range(len(shares)), key=lambda i: floors[i] - shares[i])
        for i in range(MAX_BLOCK - sum(floors)):
            floors[by_rest[i % len(floors)]] += 1
        counts = floors
    return np.array(counts, np.int64)
