"""What happens to each parameter: a table of regex → treatment that matches every parameter exactly once.

    treatments = (
        ("vision/.*", Frozen()),
        ("language/.*relpos", Trained(learning_rate_scale=0.1)),
        ("otherwise", Trained()),
    )

A regex must match the whole name (``re.fullmatch``). Order means nothing: a parameter that two rows match is an error,
and so are one that no row matches and a row that matches none. ``otherwise`` stands for whatever no regex matches.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from paligax.training import trees

OTHERWISE = "otherwise"


@dataclasses.dataclass(frozen=True)
class Trained:
    """Updated by the optimizer.

    Attributes:
      learning_rate_scale: factor on the schedule's learning rate.
      weight_decay: decoupled: learning rate · scale · weight_decay · parameter is subtracted at every step.
    """

    learning_rate_scale: float = 1.0
    weight_decay: float = 0.0

    is_trained = True


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Outside the gradient, without optimizer state, never written."""

    is_trained = False


Treatment = Trained | Frozen
Table = Sequence[tuple[str, Treatment]]

TRAIN_ALL: Table = ((OTHERWISE, Trained()),)


def assign(table: Table, names: Sequence[str]) -> dict[str, Treatment]:
    """Name → treatment for every parameter.

    Raises:
      ValueError: listing every parameter that is not matched by exactly one row and every row that matches none.
    """
    rows = [(pattern, _compile(pattern), treatment) for pattern, treatment in table if pattern != OTHERWISE]
    rest = [treatment for pattern, treatment in table if pattern == OTHERWISE]
    problems = []
    if len(rest) > 1:
        problems.append(f"{len(rest)} rows are named {OTHERWISE!r}; there can be one")
    assigned: dict[str, Treatment] = {}
    used = set()
    for name in names:
        matches = [(pattern, treatment) for pattern, regex, treatment in rows if regex.fullmatch(name)]
        used.update(pattern for pattern, _ in matches)
        if len(matches) > 1:
            problems.append(f"{name} is matched by {len(matches)} rows: {', '.join(repr(p) for p, _ in matches)}")
        elif not matches and not rest:
            problems.append(f"{name} is matched by no row (a row named {OTHERWISE!r} takes what is left)")
        else:
            assigned[name] = matches[0][1] if matches else rest[0]
    for pattern, _, _ in rows:
        if pattern not in used:
            near = difflib.get_close_matches(pattern, names, n=1, cutoff=0.3)
            problems.append(f"row {pattern!r} matches no parameter" + (f"; the nearest is {near[0]}" if near else ""))
    if problems:
        more = f"\n  … and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise ValueError(
            "Trainer.treatments must match each parameter by exactly one row (the whole name, e.g. 'vision/.*'):\n  "
            + "\n  ".join(problems[:20])
            + more
        )
    return assigned


def _compile(pattern: str) -> re.Pattern:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"Trainer.treatments: {pattern!r} is no regular expression: {error}.") from error


def split(params: Mapping[str, Any], assigned: Mapping[str, Treatment]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(trained, frozen) nested dicts of a tree whose leaves have the assigned names."""
    leaves = trees.flatten(params)
    return (
        trees.unflatten({name: leaf for name, leaf in leaves.items() if assigned[name].is_trained}),
        trees.unflatten({name: leaf for name, leaf in leaves.items() if not assigned[name].is_trained}),
    )


def merge(trained: Mapping[str, Any], frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes :func:`split`."""
    return trees.unflatten(dict(sorted((trees.flatten(trained) | trees.flatten(frozen)).items())))


def summary(table: Table, assigned: Mapping[str, Treatment], shapes: Mapping[str, Any]) -> str:
    """The table as it is printed at the start: each row's treatment, its number of arrays and of parameters."""
    sizes = {name: _size(leaf) for name, leaf in trees.flatten(shapes).items()}
    regexes = {pattern: _compile(pattern) for pattern, _ in table if pattern != OTHERWISE}
    lines = []
    for pattern, treatment in table:
        if pattern == OTHERWISE:
            names = [n for n in assigned if not any(regex.fullmatch(n) for regex in regexes.values())]
        else:
            names = [n for n in assigned if regexes[pattern].fullmatch(n)]
        total = sum(sizes[name] for name in names)
        lines.append(f"  {pattern:<40} {len(names):>4} arrays {total:>14,} parameters  {treatment}")
    trained = sum(size for name, size in sizes.items() if assigned[name].is_trained)
    lines.append(f"  {trained:,} of {sum(sizes.values()):,} parameters are trained")
    return "\n".join(lines)


def _size(leaf: Any) -> int:
    size = 1
    for dimension in leaf.shape:
        size *= dimension
    return size
