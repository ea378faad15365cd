import dataclasses
import math

import pytest

from paligax.data import ingest
from paligax.data.ingest.reader import PART, RECORD, Problem, Reader, option


@dataclasses.dataclass(frozen=True)
class Bounded(Reader):
    path: str
    unit_size: int = 1000
    share: float = option(0.5, least=0, most=1)
    kind: str = option("line", choices=("line", "file"))
    number: str = option("1", check=int)
    maybe: bool = False

    def units(self):
        yield 1

    def read(self, unit):
        yield Problem("bad", self.path)


def test_what_a_problem_costs_unless_it_says_otherwise():
    (problem,) = Bounded("x").read(1)
    assert (problem.lost, problem.number) == (RECORD, 1) and Problem("bad", "x", PART, 3).number == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"unit_size": 0}, "unit_size=0: expected a whole number from 1 to 1,000,000"),
        ({"unit_size": -5}, "unit_size=-5: expected"),
        ({"unit_size": 10**12}, "unit_size=1000000000000: expected"),
        ({"share": 1.01}, "share=1.01: expected a number from 0 to 1"),
        ({"share": math.nan}, "share=nan: expected"),
        ({"kind": "lines"}, r"kind='lines' is not known; did you mean 'line'\? Choose one of line \| file"),
        ({"kind": "xyz"}, r"kind='xyz' is not known; choose one of line \| file"),
        ({"number": "many"}, "invalid literal for int"),
    ],
)
def test_options_are_bounded(given, message):
    with pytest.raises(ValueError, match=message):
        Bounded("x", **given)
    assert Bounded("x", unit_size=1_000_000, share=1.0, kind="file", maybe=True).kind == "file"


@pytest.mark.parametrize("kind", ingest.READERS)
def test_no_source_takes_a_unit_of_nothing_or_of_everything(kind):
    """Every whole number among the options of every source counts something, and lets itself be counted."""
    cls = ingest.reader_class(kind)
    numbers = [field.name for field in dataclasses.fields(cls) if type(field.default) is int]
    needed = [field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING]
    for name in numbers:
        for value in ("0", "-1", "99999999999999999999"):
            with pytest.raises(ValueError, match=f"{name}={value}"):
                ingest.make_reader(kind, **dict.fromkeys(needed, "x"), **{name: value})
