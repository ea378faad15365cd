import numpy as np
import pytest

from paligax.data.ingest.hash_index import HashIndex


def by_comparing_all(hashes, asked, radius, fine_radius):
    coarse, fine = (np.bitwise_count(asked[:, None, half] ^ hashes[None, :, half]).astype(int) for half in (0, 1))
    distance = np.where((coarse <= radius) & (fine <= fine_radius), coarse, 99)
    nearest = distance.argmin(axis=1)  # the first of several
    least = distance.min(axis=1)
    return np.where(least == 99, -1, nearest), np.where(least == 99, -1, least)


def turned(rng, value, bits):
    """A hash of which so many bits are turned over."""
    return value ^ np.bitwise_or.reduce(np.uint64(1) << rng.choice(64, bits, replace=False).astype(np.uint64))


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 5, 6, 8, 9, 12, 20])
def test_the_same_is_found_as_by_comparing_all(radius):
    rng = np.random.default_rng(radius)
    hashes = rng.integers(0, 2**64, (1500, 2), np.uint64)
    hashes[700:710] = hashes[3]
    asked = [
        [turned(rng, coarse, rng.integers(0, radius + 3)), turned(rng, fine, rng.integers(0, 20))]
        for coarse, fine in hashes[rng.integers(0, 1500, 300)]
    ]
    asked = np.concatenate([np.array(asked, np.uint64), rng.integers(0, 2**64, (200, 2), np.uint64), hashes[705:706]])
    expected = by_comparing_all(hashes, asked, radius, 16)
    found = HashIndex(hashes, radius, 16).nearest(asked)
    np.testing.assert_array_equal(found, expected)
    assert 60 < (found[0] >= 0).sum() < 400 and found[0][-1] == 3


def test_hashes_in_which_a_band_is_often_the_same():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, (800, 2), np.uint64)
    hashes[:, 0] &= np.uint64(0xFFFF)
    asked = hashes[:100] ^ np.uint64(0b101)
    expected = by_comparing_all(hashes, asked, 6, 64)
    np.testing.assert_array_equal(HashIndex(hashes, 6, 64).nearest(asked), expected)


def test_nothing_to_look_up_or_in():
    none = np.zeros((0, 2), np.uint64)
    number, distance = HashIndex(none, 6, 16).nearest(np.zeros((2, 2), np.uint64))
    assert number.tolist() == distance.tolist() == [-1, -1]
    assert [a.tolist() for a in HashIndex(np.zeros((3, 2), np.uint64), 6, 16).nearest(none)] == [[], []]


@pytest.mark.parametrize("radius", [-1, 21])
def test_radii_have_their_limits(radius):
    with pytest.raises(ValueError, match="expected 0 to 20 of 64 bits"):
        HashIndex(np.zeros((1, 2), np.uint64), radius, 16)
