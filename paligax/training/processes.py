"""What the processes of one job must agree on or add up."""

import json
from collections.abc import Mapping

import jax
import numpy as np


def agree(value: int) -> int:
    """The first process's value, in all of them. Every process must call it."""
    if jax.process_count() == 1:
        return value
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def add_up(counts: Mapping[str, int]) -> dict[str, int]:
    """Sum of the processes' counts by name. Every process must call it."""
    if jax.process_count() == 1:
        return dict(counts)
    from jax.experimental import multihost_utils

    text = json.dumps(dict(counts)).encode()
    longest = int(multihost_utils.process_allgather(np.int32(len(text))).max())
    texts = multihost_utils.process_allgather(np.frombuffer(text.ljust(longest), np.uint8))
    total: dict[str, int] = {}
    for row in np.asarray(texts):
        for name, number in json.loads(row.tobytes()).items():
            total[name] = total.get(name, 0) + number
    return total
