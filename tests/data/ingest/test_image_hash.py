import numpy as np
import pytest

from paligax.data.ingest import image_hash
from paligax.data.ingest.image_hash import VIEWS, perceptual_hash, views
from tests.data.ingest import pictures


@pytest.fixture(scope="module")
def known():
    rng = np.random.default_rng(0)
    return [pictures.natural(rng, int(rng.integers(70, 130))) for _ in range(150)]


def differences(known, change):
    """int[150, 2]: coarse and fine bits between a changed picture's hash and the nearest of the picture's own."""

    def between(a, b):
        return (a[0] ^ b[0]).bit_count(), (a[1] ^ b[1]).bit_count()

    return np.array([min(between(perceptual_hash(change(p)), own) for own in views(p)) for p in known])


@pytest.mark.parametrize(
    "change",
    [
        lambda p: pictures.compressed(p, 40),
        lambda p: pictures.resized(p, 48, 48),
        lambda p: pictures.resized(p, 150, 80),
        lambda p: pictures.brightened(p, 20),
        lambda p: pictures.compressed(np.ascontiguousarray(p[:, ::-1]), 60),
    ],
    ids=["compressed", "smaller", "another shape", "brighter", "mirrored"],
)
def test_what_looks_the_same_has_nearly_the_same_hash(known, change):
    found = differences(known, change)
    assert found.max(axis=0).tolist() <= [4, 8] and (found.mean(axis=0) < [1, 2]).all()


@pytest.mark.parametrize("share", [0.01, 0.02, 0.03, 0.05, 0.06])
def test_a_picture_without_its_rim_is_found(known, share):
    coarse, fine = differences(known, lambda p: pictures.cropped(p, share)).T
    assert ((coarse <= 6) & (fine <= 16)).mean() >= 0.96 and coarse.max() <= 10


def test_other_pictures_are_far(known):
    """2,000 others and 900 hashes: none of 1.8 million pairs is near in both halves, even at larger radii."""
    rng = np.random.default_rng(1)
    others = np.array([perceptual_hash(pictures.natural(rng, 64)) for _ in range(2000)], np.uint64)
    hashes = np.array([value for p in known for value in views(p)], np.uint64)
    assert len(hashes) == VIEWS * len(known)
    coarse, fine = (np.bitwise_count(others[:, None, half] ^ hashes[:, half]) for half in (0, 1))
    assert not (coarse <= 6).any()
    assert not ((coarse <= 10) & (fine <= 20)).any()


def test_half_of_the_bits_are_set(known):
    assert {half.bit_count() for p in known for half in perceptual_hash(p)} == {32}


def test_there_is_nothing_to_see_in_a_flat_picture():
    grey = np.full((40, 60, 3), 200, np.uint8)
    assert perceptual_hash(grey) is None and views(grey) == []
    speck = grey.copy()
    speck[0, 0] = 255
    assert perceptual_hash(speck) is None
    framed = grey.copy()
    framed[:2] = framed[-2:] = 0
    framed[:, :3] = framed[:, -3:] = 0
    assert views(framed)[-1] == views(framed)[0]  # the flat inside stands for nothing
    assert perceptual_hash(np.zeros((1, 1, 3), np.uint8)) is None


def test_the_hash_is_the_same_on_every_machine():
    """A picture whose waves are chosen: bit k is whether wave k is stronger than the median."""
    waves = image_hash._waves()
    assert waves.shape == (128, 1024)
    np.testing.assert_allclose(waves.sum(axis=1), 0, atol=1e-3)  # none holds the mean
    wanted = np.array([1, 0] * 32 + [0, 1] * 32, np.float32)
    pixels = 128 + (wanted * 2 - 1) @ waves
    grey = np.clip(pixels.reshape(32, 32).round(), 0, 255).astype(np.uint8)
    assert perceptual_hash(np.repeat(grey[..., None], 3, 2)) == (0xAAAAAAAAAAAAAAAA, 0x5555555555555555)
