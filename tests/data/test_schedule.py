import math

import numpy as np
import pytest

from paligax.data import schedule

PAPER = {"a": 100, "b": 1000, "c": 100, "d": 100, "e": 100, "f": 100, "g": 50, "h": 16}


def test_blocks_are_the_smallest_with_exact_counts():
    paper = schedule.Schedule(PAPER, seed=0)
    assert paper.block_size == 783
    assert schedule.Schedule({"a": 0.1, "b": 0.25}, seed=0).block_size == 7
    assert schedule.Schedule({"a": 3e8, "b": 1e8}, seed=0).block_size == 4


@pytest.mark.parametrize("seed", [0, 1])
def test_proportions_are_exact_at_every_blocks_end(seed):
    paper = schedule.Schedule(PAPER, seed)
    tasks, k = paper.locate(np.arange(5 * 783))
    for block in range(1, 6):
        counts = np.bincount(tasks[: block * 783], minlength=8)
        np.testing.assert_array_equal(counts, block * np.array(list(PAPER.values())) // 2)
    for task in range(8):  # every example of a task in turn, none twice
        np.testing.assert_array_equal(k[tasks == task], np.arange((tasks == task).sum()))
    assert (tasks[:783] != tasks[783:1566]).any()


def test_any_position_is_computed_alone():
    paper = schedule.Schedule(PAPER, seed=3)
    tasks, k = paper.locate(np.arange(2000))
    some = np.array([1999, 5, 783, 782])
    np.testing.assert_array_equal(np.stack(paper.locate(some)), np.stack([tasks[some], k[some]]))


def test_rates_without_a_small_block_are_rounded_to_the_largest():
    uneven = schedule.Schedule({"a": math.pi * 1e6, "b": 1e6, "c": 1e-3}, seed=0)
    assert uneven.block_size == schedule.MAX_BLOCK
    assert uneven.counts[2] == 1
    assert uneven.counts[0] / uneven.counts[1] == pytest.approx(math.pi, rel=1e-4)


@pytest.mark.parametrize("rates", [{}, {"a": 0}, {"a": -1.0, "b": 1}, {"a": float("nan")}])
def test_bad_rates_are_told(rates):
    with pytest.raises(ValueError, match="positive"):
        schedule.Schedule(rates, seed=0)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1024, 12345])
def test_an_epoch_is_a_permutation(size):
    order = schedule.Order({"task": size}, seed=0, shuffle=True)
    k = np.arange(2 * size)
    first, second = np.split(order.entries(np.zeros_like(k), k), 2)
    np.testing.assert_array_equal(np.sort(first), np.arange(size))
    np.testing.assert_array_equal(np.sort(second), np.arange(size))
    if size > 50:
        assert (first != second).any()
        assert abs(np.corrcoef(first, np.arange(size))[0, 1]) < 0.3


def test_the_order_is_uniform():
    order = schedule.Order({"task": 5}, seed=0, shuffle=True)
    k = np.arange(5 * 4000)
    entries = order.entries(np.zeros_like(k), k).reshape(4000, 5)
    share = np.stack([(entries == i).mean(axis=0) for i in range(5)])
    np.testing.assert_allclose(share, 0.2, atol=0.03)


def test_tasks_seeds_and_sizes_differ_elementwise():
    order = schedule.Order({"a": 10, "b": 1000}, seed=0, shuffle=True)
    task = np.array([0, 1] * 10)
    k = np.repeat(np.arange(10), 2)
    both = order.entries(task, k)
    np.testing.assert_array_equal(np.sort(both[::2]), np.arange(10))
    assert len(set(both[1::2])) == 10 and both[1::2].max() > 10
    other = schedule.Order({"a": 10, "b": 1000}, seed=1, shuffle=True)
    assert (other.entries(task, k) != both).any()
    seeds = order.seeds(task, k)
    assert seeds.dtype == np.int32 and seeds.shape == (20, 2)
    assert len({tuple(s) for s in seeds}) == 20
    assert (other.seeds(task, k) != seeds).all(axis=1).any()


def test_without_shuffling_the_index_keeps_its_order():
    order = schedule.Order({"a": 10}, seed=0, shuffle=False)
    np.testing.assert_array_equal(order.entries(np.zeros(25, int), np.arange(25)), np.arange(25) % 10)


def test_the_arithmetic_never_changes():
    """Runs that are resumed with a newer version of anything see the same examples."""
    order = schedule.Order({"a": 1_000_000_007}, seed=42, shuffle=True)
    task, k = np.zeros(3, int), np.array([0, 1, 999_999_999])
    assert order.entries(task, k).tolist() == ENTRIES
    assert order.seeds(task, k).tolist() == SEEDS
    assert schedule.Schedule(PAPER, seed=42).locate(np.arange(12))[0].tolist() == TASKS


ENTRIES = [423005210, 520895160, 270782776]
SEEDS = [[-249639465, -1973103599], [-2051047745, -1038857948], [1285165829, 297748660]]
TASKS = [6, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3]
