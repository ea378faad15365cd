"""The pieces that pages are made of: the shell with its style sheet, texts, pictures with boxes, tables."""

import base64
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from paligax.inference.shown import Box, png_bytes

_STYLE = pathlib.Path(__file__).with_name("style.css")
_SENTINEL = re.compile(r"&lt;extra_id_\d+&gt;")


def html(title: str, body: str) -> str:
    """A self-contained page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>\n{_STYLE.read_text(encoding='utf-8')}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def write(path: str | os.PathLike, title: str, body: str) -> pathlib.Path:
    """Writes a self-contained page; the file appears whole or not at all."""
    page = html(title, body)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)
    return path


def text(value: str) -> str:
    """Escaped text in which sentinels step back; an empty text is said to be empty."""
    if not value:
        return '<span class="muted">(empty)</span>'
    return _SENTINEL.sub(lambda found: f'<span class="sentinel">{found.group()}</span>', escape(value))


def drawn_boxes(boxes: Iterable[Box], kind: str) -> tuple[str, str]:
    """Frames and labels of boxes of class "true" or "predicted" on a 1000 × 1000 canvas.

    A true box has its label inside its upper left corner, a predicted one inside its lower right, so that both are read
    where the boxes agree.
    """
    frames, labels = [], []
    for box in boxes:
        left, right = sorted((box.xmin * 1000, box.xmax * 1000))
        top, bottom = sorted((box.ymin * 1000, box.ymax * 1000))
        place = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
        if kind == "true":
            corner = f'x="{min(max(left, 0) + 14, 900):.1f}" y="{min(max(top + 46, 46), 986):.1f}"'
        else:
            corner = (
                f'x="{max(min(right, 1000) - 14, 100):.1f}" y="{min(max(bottom - 14, 46), 986):.1f}" text-anchor="end"'
            )
        frames.append(f'<rect class="halo" {place}/><rect class="{kind}" {place}/>')
        labels.append(f'<text class="{kind}" {corner}>{escape(box.label)}</text>')
    return "".join(frames), "".join(labels)


def picture(image: np.ndarray, true_boxes: Iterable[Box] = (), predicted_boxes: Iterable[Box] = ()) -> str:
    """uint8[H, W, 3] as an inline PNG of its own size, enlarged crisply by the browser, with boxes drawn over it."""
    data = base64.b64encode(png_bytes(image)).decode()
    height, width = image.shape[:2]
    return framed(f"data:image/png;base64,{data}", width, height, true_boxes, predicted_boxes)


def framed(
    source: str, width: int, height: int, true_boxes: Iterable[Box] = (), predicted_boxes: Iterable[Box] = ()
) -> str:
    """A picture given as a data URI, with boxes drawn over it."""
    (true_frames, true_labels), (frames, labels) = (
        drawn_boxes(true_boxes, "true"),
        drawn_boxes(predicted_boxes, "predicted"),
    )
    drawn = true_frames + frames + true_labels + labels
    overlay = (
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>' if drawn else ""
    )
    return f'<div class="picture"><img src="{source}" width="{width}" height="{height}" alt="">{overlay}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool]) -> str:
    """A table that scrolls sideways where it must; cells are HTML, the first of a row is its heading."""

    def cell(tag: str, i: int, value: str) -> str:
        return f"<{tag}{' class=number' if numeric[i] else ''}>{value}</{tag}>"

    top = "".join(cell("th", i, value) for i, value in enumerate(head))
    body = "".join(
        "<tr>" + "".join(cell("td" if i else "th", i, value) for i, value in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="card scroll table"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def duration(seconds: float) -> str:
    """42 → 42 s, 75 → 1 min 15 s, 4000 → 1 h 07 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
