"""Index entries of a split: entry → (record, item), at 10⁹ records without their counts in memory.

    entry ──(shards' totals, in the manifest)──► shard ──(entries before each block)──► block of 4,096 records
                                                       ──(the block's counts, 8 KB read and added up)──► record, item

What stands before each block is 2 MB a kind for 10⁹ records. It is read from the file that a build writes; where a data
set has none, each shard that is asked about is looked through once, and the same array fills up.
"""

import difflib
import functools
import logging
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from paligax.data import counts, items
from paligax.data.counts import BLOCK

if TYPE_CHECKING:
    from paligax.data.shards import Split

_AT_ONCE = 1024 * BLOCK  # counts in memory: 8 MB
_ADDED_AT_ONCE = 64  # blocks: 2 MB added up, small, because every thread's allocator keeps such pieces
_FETCHED_AT_ONCE = 512  # blocks

log = logging.getLogger(__name__)


class Entries:
    """Index entries of one kind in one split.

    A kind of several languages ("qa:de+fr") has the entries of each of them together, as many as their kinds count.

    Raises ValueError for a kind that the manifest doesn't count.
    """

    def __init__(self, split: "Split", kind: str):
        base, colon, languages = kind.partition(":")
        kinds = [f"{base}:{language}" for language in languages.split("+")] if colon else [kind]
        for counted in kinds:
            _require_counted(split, counted)
        self._split = split
        self._stored = [k for k in kinds if k not in split.shards.uniform]
        self._uniform = sum(split.shards.uniform[k] for k in kinds if k not in self._stored)
        self._of_shard = sum(split.shards.items_of(k) for k in kinds)
        self._ends = np.cumsum(self._of_shard)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def locate(self, entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """entries int64[n] → (record int64[n] in the split, item int64[n] in the record).

        Raises IndexError for an entry that there isn't, ValueError where counts and manifest don't fit together.
        """
        if len(entries) and not 0 <= entries.min() <= entries.max() < len(self):
            raise IndexError(f"Index entries {entries.min()} … {entries.max()} are asked for; there are {len(self):,}.")
        if not self._stored:
            return entries // max(self._uniform, 1), entries % max(self._uniform, 1)
        with self._lock:
            before, all_known = self._before_blocks(entries), bool(self._known.all())
        records, found = np.empty_like(entries), np.empty_like(entries)
        blocks, of = np.unique(np.searchsorted(before, entries, side="right") - 1, return_inverse=True)
        order = np.argsort(of, kind="stable")
        cuts = np.searchsorted(of[order], np.arange(0, len(blocks) + _ADDED_AT_ONCE, _ADDED_AT_ONCE))
        for first in range(0, len(blocks), _ADDED_AT_ONCE):
            some = blocks[first : first + _ADDED_AT_ONCE]
            if first % _FETCHED_AT_ONCE == 0:
                self._fetch(blocks[first : first + _FETCHED_AT_ONCE])
            rows = order[cuts[first // _ADDED_AT_ONCE] : cuts[first // _ADDED_AT_ONCE + 1]]
            ends = self._ends_in(some)
            ends += before[some, None]  # rising from row to row, too
            if all_known and (ends[:, -1] != before[some + 1]).any():
                raise _damaged(self._split, self._stored)
            place = np.searchsorted(ends.reshape(-1), entries[rows], side="right")
            if (place // BLOCK != of[rows] - first).any():
                raise _damaged(self._split, self._stored)
            start = np.where(place % BLOCK, ends.reshape(-1)[place - 1], before[blocks[of[rows]]])
            records[rows], found[rows] = blocks[of[rows]] * BLOCK + place % BLOCK, entries[rows] - start
        for counts_of_kind in self._counts:
            counts_of_kind.release()
        return records, found

    def _fetch(self, blocks: np.ndarray) -> None:
        for of_kind in self._counts:
            for block in blocks.tolist():
                of_kind.fetch(block * BLOCK, min((block + 1) * BLOCK, self._split.num_records))

    def _ends_in(self, blocks: np.ndarray) -> np.ndarray:
        """int64[n, BLOCK]: entries in each of n blocks up to and including each record."""
        if len(self._counts) == 1 and not self._uniform:
            return np.cumsum(self._counts[0].blocks(blocks), axis=1, dtype=np.int64)
        there = blocks[:, None] * BLOCK + np.arange(BLOCK) < self._split.num_records
        total = np.where(there, self._uniform, 0)
        for of_kind in self._counts:
            total += of_kind.blocks(blocks)
        return np.cumsum(total, axis=1)

    @functools.cached_property
    def _counts(self) -> list[counts.Counts]:
        split = self._split
        return [counts.Counts(split.directory, split.name, kind, split.num_records) for kind in self._stored]

    def _read(self, first: int, last: int) -> np.ndarray:
        """Entries of each record from first to before last."""
        if len(self._counts) == 1 and not self._uniform:
            return self._counts[0].read(first, last)
        return sum((of_kind.read(first, last).astype(np.int64) for of_kind in self._counts), np.int64(self._uniform))

    # -------------------------------------------------------------------------------------------- before each block

    @functools.cached_property
    def _before(self) -> np.ndarray:
        """int64[blocks + 1]: entries before each block. Of a shard not looked into yet: those before the shard."""
        split, starts = self._split, _starts(self._split.num_records)
        written = [counts.read_sums(split.directory, split.name, kind, split.num_records) for kind in self._stored]
        if all(sums is not None for sums in written):
            before = sum(written, self._uniform * np.minimum(starts, split.num_records))
            if before[-1] == len(self):
                self._known[:] = True
                return before
            log.warning("What the manifest of %r says of %s is older than its shards.", split.directory, self._stored)
        shard = np.searchsorted(split.ends, starts, side="right")
        return np.concatenate([[0], self._ends])[shard]

    @functools.cached_property
    def _known(self) -> np.ndarray:
        """bool[shards]: whether what stands before the blocks that begin in a shard is known."""
        return np.zeros(len(self._ends), bool)

    def _before_blocks(self, entries: np.ndarray) -> np.ndarray:
        """_before, with all that these entries need."""
        before, split = self._before, self._split
        if not self._known.all():
            asked = np.unique(np.searchsorted(self._ends, entries, side="right"))
            begun = (split.ends[asked] - split.shards.records[asked]) // BLOCK * BLOCK  # of the block they begin in
            needed = np.union1d(asked, np.searchsorted(split.ends, begun, side="right"))
            needed = needed[~self._known[needed]]
            for shard in needed:
                for of_kind in self._counts:
                    of_kind.fetch(int(split.ends[shard] - split.shards.records[shard]), int(split.ends[shard]))
            for shard in needed:
                self._look_into(int(shard))
        return before

    def _look_into(self, shard: int) -> None:
        last = int(self._split.ends[shard])
        first = last - int(self._split.shards.records[shard])
        total = int(self._ends[shard] - self._of_shard[shard])
        for start, number in self._sums(first, last):
            if start % BLOCK == 0:
                self._before[start // BLOCK] = total
            total += number
        if total != self._ends[shard]:
            raise _damaged(self._split, self._stored)
        self._known[shard] = True
        for of_kind in self._counts:
            of_kind.release()

    def _sums(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """(record, entries from it to the next block or to last), for first and each block behind it."""
        for at in range(first - first % BLOCK, last, _AT_ONCE):
            begin, end = max(at, first), min(at + _AT_ONCE, last)
            starts = np.arange(begin - begin % BLOCK, end, BLOCK)
            starts[0] = begin
            sums = np.add.reduceat(self._read(begin, end), starts - begin, dtype=np.int64)
            yield from zip(starts.tolist(), sums.tolist(), strict=True)


def _starts(records: int) -> np.ndarray:
    """int64[blocks + 1]: the record with which each block begins."""
    return np.arange(-(-records // BLOCK) + 1, dtype=np.int64) * BLOCK


def _damaged(split: "Split", kinds: list[str]) -> ValueError:
    return ValueError(
        f"The manifest of {split.directory!r} and its counts of {', '.join(kinds)} in split {split.name!r} don't fit "
        f"together: one of them is damaged or of another build. Count again: {_again(split)}."
    )


def _again(split: "Split", languages: str = "") -> str:
    return f"paligax.data.records.write_manifest({split.directory!r}{languages})"


def _require_counted(split: "Split", kind: str) -> None:
    known = split.shards.kinds
    if kind in known:
        return
    base, _, language = kind.partition(":")
    if language and base in known:
        raise ValueError(
            f"The manifest of {split.directory!r} doesn't count {kind!r}: it counts {base!r} in "
            f"{', '.join(k.partition(':')[2] for k in known if k.startswith(base + ':')) or 'no language'}. Count it: "
            f"{_again(split, f', languages=[{language!r}]')}."
        )
    if base in items.ITEMS:
        raise ValueError(
            f"The manifest of {split.directory!r} is older than items {base!r} and doesn't count them. Count them: "
            f"{_again(split)}."
        )
    near = difflib.get_close_matches(kind, known, 1)
    raise ValueError(
        f"The manifest of {split.directory!r} counts no items {kind!r}"
        f"{f'; did you mean {near[0]!r}?' if near else '.'} Counted: {', '.join(known)}."
    )
