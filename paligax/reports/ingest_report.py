"""What came of foreign data: how much is there, what was left out or removed and why, with samples to look at."""

import os
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from paligax.reports import page

_BASE64 = re.compile(r"[A-Za-z0-9+/=]*")
_ACROSS = 6  # samples side by side
_CELL = "white-space: normal; overflow-wrap: anywhere; vertical-align: top; width: 16%"
_PARTS = {"alt_text": "captions", "ocr": "strings", "qa": "questions"}  # what people call them


def page_path(directory: str, split: str) -> str:
    """Where the page of a split lies in its data directory."""
    return os.path.join(directory, f"ingest-{split}.html")


def write_ingest_report(path: str | os.PathLike, summary: Mapping[str, Any]) -> str:
    """Writes one page of a build's summary (`paligax.data.ingest`'s ingest-SPLIT.json) and returns its path.

    The path is local, or on a store that etils.epath (gs://, s3://) or fsspec (memory://, …) knows.
    """
    path, split = os.fspath(path), summary["split"]
    title, body = f"{split}: what came of the source", _body(summary)
    if "://" not in path:
        page.write(path, title, body)
        return path
    from etils import epath

    whole = page.html(title, body)
    try:
        remote = epath.Path(path)
    except KeyError:  # a scheme that etils doesn't know
        import fsspec

        with fsspec.open(path, "w", encoding="utf-8") as f:
            f.write(whole)
    else:
        remote.write_text(whole, encoding="utf-8")  # object stores show a file when it is whole
    return path


def _body(summary: Mapping[str, Any]) -> str:
    parts = [
        f"<h1>{escape(summary['split'])}: {summary['records']:,} records in {summary['shards']:,} shards</h1>",
        f'<p class="muted">{escape(_described(summary["source"]))}</p>',
        _ledger(summary),
        _parts(summary["parts"]),
        _counts("Index entries", "kind", {k: n for k, n in summary["items"].items() if n}, share=False),
        _counts("Languages", "texts", summary["languages"]),
        _counts("Shorter sides of the images", "pixels", {f"{s} … {2 * int(s) - 1}": n for s, n in _by_size(summary)}),
    ]
    for title, key in (("Removed", "removed"), ("Left out or changed", "problems")):
        for reason, number in summary[key].items():
            parts.append(f"<h2>{title}: {escape(reason)} ({number:,})</h2>")
            parts.append(_samples(summary["samples"].get(reason, [])))
    return "\n".join(parts)


def _described(source: Mapping[str, Any]) -> str:
    stages = [str(stage["kind"]) for stage in source.get("stages", [])]
    fields = ", ".join(f"{name}={value}" for name, value in source["source"].items() if name != "kind" and value != "")
    return f"{source['source']['kind']}({fields})" + "".join(f" → {stage}" for stage in stages)


def _ledger(summary: Mapping[str, Any]) -> str:
    """Where every record that was read is: the rows below the first add up to it."""
    rows = [("read", summary["read"]), ("written", summary["records"])]
    rows += [(f"left out: {reason}", number) for reason, number in summary["dropped"].items()]
    rows += [(f"removed: {reason}", number) for reason, number in summary["removed"].items()]
    total = max(1, summary["read"])
    cells = [(escape(name), f"{number:,}", f"{number / total:.2%}") for name, number in rows]
    return "<h2>Records</h2>" + page.table(("", "number", "of those read"), cells, (False, True, True))


def _parts(parts: Mapping[str, Mapping[str, int]]) -> str:
    """What the records that were read held, and how much of it didn't come in."""
    if not parts:
        return ""
    head = ("", "read", "left out of their records", "left out with their records", "came in")
    rows = []
    for kind, counts in parts.items():
        numbers = [counts["read"], counts["left out"], counts["dropped"]]
        numbers.append(numbers[0] - numbers[1] - numbers[2])
        rows.append((escape(_PARTS.get(kind, kind)), *(f"{number:,}" for number in numbers)))
    return "<h2>What the records held</h2>" + page.table(head, rows, (False, True, True, True, True))


def _by_size(summary: Mapping[str, Any]) -> list[tuple[str, int]]:
    return sorted(summary["sides"].items(), key=lambda pair: int(pair[0]))


def _counts(title: str, of: str, counts: Mapping[str, int], share: bool = True) -> str:
    """A table of numbers, with each one's share of their sum where they are parts of one."""
    if not counts:
        return ""
    total, columns = sum(counts.values()), 3 if share else 2
    rows = [(escape(name), f"{number:,}", f"{number / total:.2%}")[:columns] for name, number in counts.items()]
    return f"<h2>{title}</h2>" + page.table((of, "number", "share")[:columns], rows, (False, True, True)[:columns])


def _samples(samples: list[dict[str, str]]) -> str:
    """Pictures with their texts, side by side; samples without picture or text, which are places, as a list."""
    shown, places = [], []
    for sample in samples:
        picture, words, name = sample.get("picture", ""), sample.get("text", ""), escape(sample["name"])
        if not picture and not words:
            places.append(f"<li><small>{name}</small></li>")
            continue
        image = ""
        if picture and _BASE64.fullmatch(picture):
            image = f'<img src="data:image/jpeg;base64,{picture}" alt=""><br>'
        score = f' <span class="muted">score {escape(sample["score"])}</span>' if "score" in sample else ""
        shown.append(f'<td style="{_CELL}">{image}{escape(words)}{score}<br><small class=muted>{name}</small></td>')
    rows = "".join("<tr>" + "".join(shown[i : i + _ACROSS]) + "</tr>" for i in range(0, len(shown), _ACROSS))
    table = f'<div class="card scroll"><table>{rows}</table></div>' if rows else ""
    return table + (f'<ul class="muted">{"".join(places)}</ul>' if places else "")
