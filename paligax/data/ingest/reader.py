"""What a source of foreign data is: units of work, each of which is read by itself into records."""

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any

Record = dict[str, Any]  # fields of paligax.data.records, nested or flat; what a reader leaves out is empty
Unit = Any  # anything that json.dumps takes


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something of the source that became no record, or a part that its record had to do without.

    Attributes:
      reason: a few words without numbers or names, by which it is counted: "image missing", "bad box".
      where: file, and member, line or key in it, for people who want to see.
    """

    reason: str
    where: str


class Reader(abc.ABC):
    """A source of foreign data; subclasses are frozen dataclasses whose fields say where it lies.

    Texts may be str or the bytes as they came, images are bytes as they came in any format, boxes are
    (ymin, xmin, ymax, xmax) as floats relative to the image: what is too long, not UTF-8, not an image, or outside is
    found later, for all readers alike (paligax.data.ingest.admission). A reader itself never fails on one bad example:
    it yields a Problem and goes on.
    """

    @abc.abstractmethod
    def units(self) -> Iterator[Unit]:
        """The source cut into pieces of some hundreds to ten thousand records, in a fixed order; one shard each.

        Raises FileNotFoundError or ValueError, saying what was expected, where the source isn't what its kind says.
        """

    @abc.abstractmethod
    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        """The records of one unit, in a fixed order. Called in other processes than ``units``."""
