import numpy as np
import pytest

from paligax.inference import blind


@pytest.mark.parametrize("seed", range(20))
def test_no_row_keeps_an_image_of_its_record_and_every_image_is_used_once(seed):
    rng = np.random.default_rng(seed)
    records = [f"vqa:{i}" for i in rng.integers(0, 8, 32)]
    largest = max(records.count(r) for r in records)
    assert 2 * largest <= 32
    chosen = blind.derange(records, [], rng)
    assert sorted(chosen) == list(range(32))
    assert all(records[i] != records[j] for i, j in enumerate(chosen))


def test_exactly_half_of_one_record_is_still_a_permutation():
    records = ["a"] * 4 + ["b", "c", "b", "d"]
    chosen = blind.derange(records, [], np.random.default_rng(0))
    assert sorted(chosen) == list(range(8)) and all(records[i] != records[j] for i, j in enumerate(chosen))


def test_padding_rows_take_no_part():
    records = ["a", None, "b", None, "c"]
    chosen = blind.derange(records, [None, "d"], np.random.default_rng(0))
    assert chosen[1] == chosen[3] == -1
    assert sorted(chosen[[0, 2, 4]]) == [0, 2, 4]
    assert all(records[i] != records[chosen[i]] for i in (0, 2, 4))


def test_too_many_rows_of_one_record_borrow_from_the_spare_ones():
    records, spare = ["a", "a", "a", None], ["a", None, "b"]
    chosen = blind.derange(records, spare, np.random.default_rng(0))
    assert list(chosen) == [6, 6, 6, -1]


def test_a_record_alone_has_no_control():
    assert list(blind.derange(["a", "a"], ["a"], np.random.default_rng(0))) == [-1, -1]
    assert list(blind.derange([None], ["a"], np.random.default_rng(0))) == [-1]


def test_record_of_an_id():
    assert blind.record_of("vqa", "vqa:17:3") == "vqa:17"
    assert blind.record_of("vqa", "https://host:80/image.jpg") == "https://host:80/image.jpg"
