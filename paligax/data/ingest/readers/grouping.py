"""Annotations, which lie in their files in any order, dealt out image by image.

Objects365 has 27 million boxes: as dictionaries they would fill 20 GB. Here they are rows in typed columns. A row takes
its columns' bytes (a text: its UTF-8 and 8), 4 for its image, and 8 for the order in which it is dealt out; an image,
about 150 for its key.
"""

import itertools
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from paligax.data.ingest.reader import Problem

MAX_KEY = 200  # characters
PROBLEMS_A_UNIT = 10_000


class Keys:
    """The keys of images (numbers or texts, 17 and "17" being one), numbered in the order in which they are met."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def number(self, key: Any) -> int:
        """The key's number, a new one where it is new; -1 for what can be no key: empty, too long, a list."""
        if type(key) is not str:
            if type(key) is not int or not -(1 << 63) <= key < 1 << 63:
                return -1
            key = str(key)
        number = self._numbers.get(key, -1)
        if number < 0 and 0 < len(key) <= MAX_KEY:
            number = self._numbers[key] = len(self.keys)
            self.keys.append(key)
        return number


class Rows:
    """Rows about images.

    Args:
      columns: a letter for each: "t" text, "f" float32, "i" int32, "b" int8.
    """

    def __init__(self, columns: str):
        self.image = array("i")
        self._columns = [_Texts() if code == "t" else array(code) for code in columns]
        self._append = [column.append for column in self._columns]

    def __len__(self) -> int:
        return len(self.image)

    def add(self, image: int, *values: Any) -> None:
        self.image.append(image)
        for append, value in zip(self._append, values, strict=True):
            append(value)

    def column(self, index: int) -> np.ndarray:
        """A column of numbers; nothing can be added from then on."""
        return _array(self._columns[index])

    def deal(self, images: int) -> "Dealt":
        """The rows of each of the images 0 … ``images`` - 1, in the order in which they came."""
        return Dealt(_array(self.image), self._columns, images)


class Dealt:
    def __init__(self, image: np.ndarray, columns: list[Any], images: int):
        self._order = np.argsort(image, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(image, minlength=images))])
        self._columns = [c if isinstance(c, _Texts) else _array(c) for c in columns]

    def count(self, image: int) -> int:
        return int(self._starts[image + 1] - self._starts[image])

    def columns(self, image: int) -> list[Any]:
        """One array (a list, of a text) a column, with a value for each row of the image."""
        rows = self._order[self._starts[image] : self._starts[image + 1]]
        return [[c[row] for row in rows] if isinstance(c, _Texts) else c[rows] for c in self._columns]

    def rows(self, image: int) -> list[tuple[Any, ...]]:
        """One tuple a row of the image."""
        columns = self.columns(image)
        return list(zip(*(c if isinstance(c, list) else c.tolist() for c in columns), strict=True))


def _array(column: array) -> np.ndarray:
    return np.frombuffer(column, column.typecode) if column else np.zeros(0, column.typecode)


class _Texts:
    """Texts in one buffer. Lone surrogates, which a JSON string may hold, come back as they are."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])

    def append(self, text: str) -> None:
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def __getitem__(self, row: int) -> str:
        return self._bytes[self._ends[row] : self._ends[row + 1]].decode("utf-8", "surrogatepass")


class Problems:
    """Problems met while a file is read, 12 bytes each."""

    def __init__(self) -> None:
        self._kinds: list[tuple[str, str]] = []
        self._number_of: dict[tuple[str, str], int] = {}
        self._kind, self._number = array("i"), array("q")
        self._taken = 0

    def add(self, reason: str, place: str, number: int | str = -1) -> None:
        """``number`` (or name) of a row or line stands behind ``place``; -1: none."""
        if isinstance(number, str):
            place, number = f"{place} {number}", -1
        kind = self._number_of.setdefault((reason, place), len(self._kinds))
        if kind == len(self._kinds):
            self._kinds.append((reason, place))
        self._kind.append(kind)
        self._number.append(number)

    def note(self, problem: Problem) -> None:
        self.add(problem.reason, problem.where)

    def take(self, most: int) -> list[list[str]]:
        """The next ones, as [reason, where]."""
        first = self._taken
        self._taken = min(first + most, len(self._kind))
        taken = []
        for i in range(first, self._taken):
            reason, place = self._kinds[self._kind[i]]
            taken.append([reason, place if self._number[i] < 0 else f"{place} {self._number[i]}"])
        return taken


def note_strangers(problems: Problems, keys: Keys, listed: Dealt, rows: Dealt, path: str) -> None:
    """Notes a problem for each row about an image that isn't listed."""
    for image, key in enumerate(keys.keys):
        if not listed.count(image):
            for _ in range(rows.count(image)):
                problems.add("annotation of an unknown image", f"{path}: image {key}")


def in_order(image: Iterable[int], images: int, problems: Problems, path: str) -> Iterator[int]:
    """The images (numbers below ``images``) as they are listed, each once; notes those listed again."""
    seen = bytearray(images)
    for place, number in enumerate(image):
        if seen[number]:
            problems.add("image listed twice", f"{path}: images", place)
        else:
            seen[number] = 1
            yield number


def units(images: Iterable[Any], problems: Problems, size: int) -> Iterator[dict[str, Any]]:
    """Units {"images": ``size`` of them, "problems": [[reason, where]]}; all problems are in some unit."""
    if size < 1:
        raise ValueError(f"unit_size={size}: expected the number of images of a unit, at least 1.")
    images = iter(images)
    while True:
        some = list(itertools.islice(images, size))
        why = problems.take(PROBLEMS_A_UNIT)
        if not some and not why:
            return
        yield {"images": some, "problems": why}


def problems_of(unit: dict[str, Any]) -> Iterator[Problem]:
    for reason, where in unit["problems"]:
        yield Problem(reason, where)
