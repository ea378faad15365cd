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

from paligax.data.ingest.reader import PART, RECORD, Problem

MAX_KEY = 200  # characters
SHOWN = 100  # places of problems of each reason that are kept


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
    """Problems met while a file is read: counted by reason, of each the first SHOWN places kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], int] = {}
        self._waiting: list[list[Any]] = []
        self._more: dict[tuple[str, str], int] = {}

    def add(self, reason: str, place: str, number: int | str = -1, lost: str = PART, many: int = 1) -> None:
        """``number`` (or name) of a row or line stands behind ``place``; -1: none. ``many``: how many are lost."""
        kind = (reason, lost)
        if self._kept.setdefault(kind, 0) < SHOWN:
            self._kept[kind] += 1
            where = place if number == -1 else f"{place} {number}"
            self._waiting.append([reason, where, lost, many])
        elif many:
            self._more[kind] = self._more.get(kind, 0) + many

    def note(self, problem: Problem, lost: str = PART) -> None:
        self.add(problem.reason, problem.where, lost=lost, many=problem.number)

    def take(self) -> list[list[Any]]:
        """Those since the last time, as Problem's fields; places that weren't kept are one with their number."""
        taken = self._waiting + [[reason, "and more", lost, number] for (reason, lost), number in self._more.items()]
        self._waiting, self._more = [], {}
        return taken


def note_strangers(problems: Problems, keys: Keys, listed: Dealt, rows: Dealt, path: str) -> None:
    """Notes a problem for the rows about each image that isn't listed."""
    for image, key in enumerate(keys.keys):
        if not listed.count(image) and rows.count(image):
            problems.add("annotation of an unknown image", f"{path}: image {key}", many=rows.count(image))


def in_order(image: Iterable[int], images: int, problems: Problems, path: str) -> Iterator[int]:
    """The images (numbers below ``images``) as they are listed, each once; notes those listed again."""
    seen = bytearray(images)
    for place, number in enumerate(image):
        if seen[number]:
            problems.add("image listed twice", f"{path}: images", place, RECORD)
        else:
            seen[number] = 1
            yield number


def units(images: Iterable[Any], problems: Problems, size: int) -> Iterator[dict[str, Any]]:
    """Units {"images": ``size`` of them, "problems": Problem's fields}; all problems are in some unit.

    A unit without images, which has no records, is there only where there is no image at all.
    """
    if size < 1:
        raise ValueError(f"unit_size={size}: expected the number of images of a unit, at least 1.")
    images, held = iter(images), []
    while some := list(itertools.islice(images, size)):
        if held:
            yield {"images": held, "problems": problems.take()}
        held = some
    rest = problems.take()  # some are met only while the last images are dealt
    if held or rest:
        yield {"images": held, "problems": rest}


def problems_of(unit: dict[str, Any]) -> Iterator[Problem]:
    for one in unit["problems"]:
        yield Problem(*one)
