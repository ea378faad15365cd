import threading
import time

import pytest

from paligax.training.prefetch import Prefetch


def test_items_come_in_order_and_end():
    items = Prefetch(lambda: iter(range(5)), lambda item: item * 10)
    assert [next(items) for _ in range(5)] == [0, 10, 20, 30, 40]
    with pytest.raises(StopIteration):
        next(items)


def test_it_runs_ahead_but_not_away():
    made = []

    def numbers():
        for i in range(100):
            made.append(i)
            yield i

    items = Prefetch(numbers, lambda item: item, ahead=3)
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert len(made) == 4, "three in the queue and one in hand"
    items.close()


def test_errors_are_raised_where_the_item_is_asked_for():
    def broken():
        yield 1
        raise OSError("the shard is gone")

    items = Prefetch(broken, lambda item: item)
    assert next(items) == 1
    with pytest.raises(OSError, match="the shard is gone"):
        next(items)


def test_closing_ends_the_thread():
    before = threading.active_count()
    items = Prefetch(lambda: iter(int, 1), lambda item: item)
    next(items)
    items.close()
    assert threading.active_count() == before
