"""What came of foreign data: how much is there, what was left out or removed and why, with samples to look at."""

import os
import pathlib
import re
from collections.abc import Mapping
from html import escape
from typing import Any

from paligax.reports import page

_BASE64 = re.compile(r"[A-Za-z0-9+/=]*")


def write_ingest_report(path: str | os.PathLike, summary: Mapping[str, Any]) -> pathlib.Path:
    """Writes one page of a build's summary (`paligax.data.ingest`'s ingest-SPLIT.json) and returns its path."""
    split = summary["split"]
    parts = [
        f"<h1>{escape(split)}: {summary['records']:,} records in {summary['shards']:,} shards</h1>",
        f'<p class="muted">{escape(_described(summary["source"]))}</p>',
        _counts("Index entries", "kind", {k: n for k, n in summary["items"].items() if n}),
        _counts("Languages", "texts", summary["languages"]),
        _counts("Shorter sides of the images", "pixels", {f"{s} … {2 * int(s) - 1}": n for s, n in _by_size(summary)}),
    ]
    for title, key in (("Removed", "removed"), ("Left out or changed", "problems")):
        for reason, number in summary[key].items():
            parts.append(f"<h2>{title}: {escape(reason)} ({number:,})</h2>")
            parts.append(_samples(summary["samples"].get(reason, [])))
    return page.write(path, f"{split}: what came of the source", "\n".join(parts))


def _described(source: Mapping[str, Any]) -> str:
    stages = [str(stage["kind"]) for stage in source.get("stages", [])]
    fields = ", ".join(f"{name}={value}" for name, value in source["source"].items() if name != "kind" and value != "")
    return f"{source['source']['kind']}({fields})" + "".join(f" → {stage}" for stage in stages)


def _by_size(summary: Mapping[str, Any]) -> list[tuple[str, int]]:
    return sorted(summary["sides"].items(), key=lambda pair: int(pair[0]))


def _counts(title: str, of: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    total = sum(counts.values())
    rows = [(escape(name), f"{number:,}", f"{number / total:.2%}") for name, number in counts.items()]
    return f"<h2>{title}</h2>" + page.table((of, "number", "share"), rows, (False, True, True))


def _samples(samples: list[dict[str, str]]) -> str:
    shown = []
    for sample in samples:
        picture = sample.get("picture", "")
        image = ""
        if picture and _BASE64.fullmatch(picture):
            image = f'<img src="data:image/jpeg;base64,{picture}" alt="">'
        score = f' <span class="muted">score {escape(sample["score"])}</span>' if "score" in sample else ""
        words = escape(sample.get("text", ""))
        shown.append(f"<td>{image}<br>{words}{score}<br><small class=muted>{escape(sample['name'])}</small></td>")
    rows = "".join("<tr>" + "".join(shown[i : i + 6]) + "</tr>" for i in range(0, len(shown), 6))
    return f'<div class="card scroll"><table>{rows}</table></div>' if rows else ""
