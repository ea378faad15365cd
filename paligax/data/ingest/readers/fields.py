"""Named values of somebody else's → a record: what the readers of self-describing files share (JSON, Parquet, tfds).

Theirs are dotted names ("meta.caption" or "meta/caption", through lists too), ours are the fields of
paligax.data.records ("qa/question"), or a whole group ("qa").
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from paligax.data import records
from paligax.data.ingest.reader import Record
from paligax.data.runtime import tf

OURS = tuple(key for key in (*records.SCALARS, *records.SEQUENCES, *records.GROUPS) if key != "image_crc")
_TYPES = records.SCALARS | {key: dtype for key, (dtype, _) in records.SEQUENCES.items()}
# The field that a group's plain texts are.
_MAIN = {"alt_text": "text", "ocr": "text", "objects": "label", "qa": "question"}


def parse(text: str) -> tuple[tuple[str, str], ...]:
    """ "question=qa/question,id" → (("question", "qa/question"), ("id", "id")): theirs and ours.

    Raises ValueError with the nearest known name for a field that records lack.
    """
    pairs = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        theirs, equals, ours = (name.strip() for name in part.partition("="))
        ours = ours if equals else theirs
        if not theirs or not ours:
            raise ValueError(f"fields: {part!r}; expected THEIRS=OURS, as in question=qa/question,file=image.")
        if ours not in OURS:
            raise ValueError(f"fields: {part!r}: a record has no field {ours!r}{nearest(ours, OURS)}")
        pairs.append((theirs, ours))
    return tuple(pairs)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message on a name that isn't known: "; did you mean …? Known: …"."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    return f"{f'; did you mean {near[0]!r}?' if near else '.'} Known: {', '.join(known)[:1000] or 'nothing'}."


def find(tree: Any, name: str) -> Any:
    """What lies at a dotted name; of a list, of each of its items. A name with dots of its own is found too.

    Raises KeyError.
    """
    if isinstance(tree, Mapping):
        if name in tree:
            return tree[name]
        for i, character in enumerate(name):
            if character in "./" and name[:i] in tree:
                return find(tree[name[:i]], name[i + 1 :])
    elif isinstance(tree, list):
        return [find(item, name) for item in tree]
    raise KeyError(name)


def record(values: Iterable[tuple[str, Any]], lang: str = "") -> tuple[Record, list[str]]:
    """(field of ours, value) pairs → a record whose values have the right types, and why others were left out.

    None means that there is nothing. A value for a sequence is one or a list; lists of one group must be of one length,
    and one value goes with each item of a list ("qa/question" of a text, "qa/answer" of three: three items). Several
    values for one sequence are put behind one another; for a scalar, the first that isn't empty holds. Numbers are
    taken for texts, too.

    Args:
      lang: for texts without a language.

    The reasons: "value of a wrong type", "uneven groups".
    """
    made: Record = {}
    reasons: list[str] = []
    items: dict[str, list[Any]] = {group: [] for group in records.GROUPS}
    columns: dict[str, dict[str, list[Any]]] = {group: {} for group in records.GROUPS}
    for ours, value in values:
        group = ours.split("/")[0]
        if value is None:
            continue
        if ours in records.GROUPS:
            items[group] += _items(ours, value)
        elif group in records.GROUPS:
            columns[group].setdefault(ours, []).append(value)
        elif ours in records.SEQUENCES:
            for one in filter(None, value if isinstance(value, list) else [value]):
                _put(made.setdefault(ours, []).append, ours, one, reasons)
        elif made.get(ours, "") in ("", b""):
            _put(lambda v, key=ours: made.__setitem__(key, v), ours, value, reasons)
    for group in records.GROUPS:
        found = _zipped(columns[group])
        if found is None:
            reasons.append("uneven groups")
        made[group] = [
            one for item in items[group] + (found or []) if (one := _item(group, item, lang, reasons)) is not None
        ]
    if lang and made.get("text") and not made.get("text_lang"):
        made["text_lang"] = lang
    return {key: value for key, value in made.items() if value or key not in records.GROUPS}, reasons


def _items(group: str, value: Any) -> list[Any]:
    """Every way to write a group: a list of items, one item, or lists by name."""
    if isinstance(value, Mapping):
        if value and all(isinstance(column, list) for column in value.values()):
            found = _zipped({f"{group}/{name}": [column] for name, column in value.items()})
            return [None] if found is None else found  # None is of a wrong type: it is counted
        return [value]
    return list(value) if isinstance(value, list) else [value]


def _zipped(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]] | None:
    """Field → its values (each one item's, or a list of them) → items; None where lists differ in length."""
    lists, single = {}, {}
    for key, given in columns.items():
        if len(given) == 1 and _is_one(key, given[0]):
            single[key] = given[0]
        else:
            lists[key] = [one for value in given for one in ([value] if _is_one(key, value) else value)]
    lengths = {len(column) for column in lists.values()}
    if len(lengths) > 1:
        return None
    count = lengths.pop() if lengths else int(bool(single))
    names = {key: key.split("/")[1] for key in columns}
    return [{names[key]: lists[key][i] if key in lists else single[key] for key in columns} for i in range(count)]


def _is_one(key: str, value: Any) -> bool:
    if isinstance(value, list) and key.endswith("/bbox"):
        return len(value) == 4 and not isinstance(value[0], list)
    return not isinstance(value, list)


def _item(group: str, item: Any, lang: str, reasons: list[str]) -> Record | None:
    """One item of a group with values of the right types; None, and a reason, where it has none."""
    if isinstance(item, (str, bytes)):
        item = {_MAIN[group]: item}
    if not isinstance(item, Mapping):
        reasons.append("value of a wrong type")
        return None
    made: Record = {}
    for name in records.GROUPS[group]:
        if item.get(name) is not None:
            _put(lambda v, key=name: made.__setitem__(key, v), f"{group}/{name}", item[name], reasons)
    if _MAIN[group] not in made:
        if item.get(_MAIN[group]) is None and any(value is not None for value in item.values()):
            reasons.append("empty text")
        return None
    if lang and "lang" in records.GROUPS[group] and not made.get("lang"):
        made["lang"] = lang
    return made


def _put(put: Any, key: str, value: Any, reasons: list[str]) -> None:
    try:
        put(_convert(key, value))
    except (TypeError, ValueError, OverflowError):
        reasons.append("value of a wrong type")


def _convert(key: str, value: Any) -> Any:
    """A value as field ``key`` holds it. Raises TypeError, ValueError or OverflowError."""
    if key.endswith("/bbox"):
        if len(value) != 4 or isinstance(value, (str, bytes, Mapping)):
            raise ValueError(value)
        return [float(side) for side in value]
    if _TYPES[key] is tf.bool:
        if value not in (0, 1):  # False and True are these
            raise ValueError(value)
        return bool(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if _TYPES[key] is tf.float32:
        if not number:
            raise TypeError(value)
        return float(value)
    if value is None or isinstance(value, float) and math.isnan(value):  # as tables write "no text"
        return ""
    if number:
        return str(value)
    if not isinstance(value, (str, bytes)):
        raise TypeError(value)
    return value
