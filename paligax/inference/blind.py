"""The blind control: the same questions with other records' images, so that what a score keeps needed no looking."""

import collections
from collections.abc import Sequence

import numpy as np


def record_of(task: str, example_id: str) -> str:
    """What the examples of one record, and so of one image, have in common.

    That is the record's own id; of "task:record:item", which stands in for a missing one, it is "task:record".
    """
    return example_id.rpartition(":")[0] if example_id.startswith(f"{task}:") else example_id


def derange(records: Sequence[str | None], spare: Sequence[str | None], rng: np.random.Generator) -> np.ndarray:
    """Chooses for every row an image of another record.

    Where no record has more than half of the rows, the images are permuted among the rows: sorted by record, each row
    takes the image that stands one largest group further on, which is never its own record's.

        records   a a b c c          largest group 2, so shift by 2:
        images    b c c a a

    Otherwise rows take images of other records from these rows and the spare ones by chance.

    Args:
      records: record of each row; None rows (padding, no image) take no part.
      spare: records of further images that may be lent, None for those that may not.
      rng: the chance.

    Returns:
      int64[len(records)]: index into records + spare; -1 where there is no image of another record.
    """
    rows = [i for i, record in enumerate(records) if record is not None]
    chosen = np.full(len(records), -1, np.int64)
    if not rows:
        return chosen
    groups = collections.defaultdict(list)
    for i in rng.permutation(rows):
        groups[records[i]].append(int(i))
    largest = max(len(group) for group in groups.values())
    if 2 * largest <= len(rows):
        order = [i for group in groups.values() for i in group]
        chosen[order] = np.roll(order, -largest)
        return chosen
    lenders = [(i, record) for i, record in enumerate([*records, *spare]) if record is not None]
    for i in rows:
        others = [j for j, record in lenders if record != records[i]]
        if others:
            chosen[i] = others[rng.integers(len(others))]
    return chosen
