"""What a source of foreign data is: units of work, each of which is read by itself into records."""

import abc
import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Record = dict[str, Any]  # fields of paligax.data.records, nested or flat; what a reader leaves out is empty
Unit = Any  # anything that json.dumps takes

# What a Problem cost: a whole record; a part of one (a caption, a box, a member, an annotation); or nobody knows how
# many records (a file that ends early).
RECORD, PART, UNKNOWN = "record", "part", "unknown"
MOST = 1_000_000  # of whatever an option counts, where it says nothing else


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something of the source that became no record, or a part that its record had to do without.

    Attributes:
      reason: a few words without numbers or names, by which it is counted: "image missing", "bad box".
      where: file, and member, line or key in it, for people who want to see.
      lost: what it cost: RECORD, PART or UNKNOWN. Records that were read are those that were handed on and these.
      number: how many records or parts.
    """

    reason: str
    where: str
    lost: str = RECORD
    number: int = 1


def option(
    default: Any,
    *,
    choices: Sequence[str] = (),
    least: float | None = None,
    most: float | None = None,
    check: Callable[[Any], Any] | None = None,
) -> Any:
    """A reader's field whose values are bounded; see Reader.

    Args:
      choices: the texts that it may be.
      least, most: the numbers that it lies between, both included.
      check: raises ValueError where the value makes no sense.
    """
    bounds = {"choices": tuple(choices), "least": least, "most": most, "check": check}
    return dataclasses.field(default=default, metadata={k: v for k, v in bounds.items() if v not in (None, ())})


class Reader(abc.ABC):
    """A source of foreign data; subclasses are frozen dataclasses whose fields say where it lies.

    Texts may be str or the bytes as they came, images are bytes as they came in any format, boxes are
    (ymin, xmin, ymax, xmax) as floats relative to the image: what is too long, not UTF-8, not an image, or outside is
    found later, for all readers alike (paligax.data.ingest.admission). A reader itself never fails on one bad example:
    it yields a Problem and goes on.

    Fields that are whole numbers count something (units' sizes): they are 1 to a million unless ``option`` says
    otherwise. Making a reader raises ValueError for a field outside its bounds.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check(field.name, getattr(self, field.name), field.metadata)

    @abc.abstractmethod
    def units(self) -> Iterator[Unit]:
        """The source cut into pieces of some hundreds to ten thousand records, in a fixed order; one shard each.

        Raises FileNotFoundError or ValueError, saying what was expected, where the source isn't what its kind says.
        """

    @abc.abstractmethod
    def read(self, unit: Unit) -> Iterator[Record | Problem]:
        """The records of one unit, in a fixed order. Called in other processes than ``units``."""


def _check(name: str, value: Any, bounds: Any) -> None:
    if type(value) is int:
        least, most = bounds.get("least", 1), bounds.get("most", MOST)
        if not least <= value <= most:
            raise ValueError(f"{name}={value}: expected a whole number from {least:,} to {most:,}.")
    elif type(value) is float:
        least, most = bounds.get("least", -math.inf), bounds.get("most", math.inf)
        if not least <= value <= most:  # NaN neither
            raise ValueError(f"{name}={value}: expected a number from {least:g} to {most:g}.")
    if "choices" in bounds and value not in bounds["choices"]:
        near = difflib.get_close_matches(str(value), bounds["choices"], 1)
        raise ValueError(
            f"{name}={value!r} is not known; {f'did you mean {near[0]!r}? Choose' if near else 'choose'} one of "
            f"{' | '.join(bounds['choices'])}."
        )
    if "check" in bounds:
        bounds["check"](value)
