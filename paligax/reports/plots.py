"""Plots as inline SVG: crisp at any size, coloured by the page's style sheet, nothing to download."""

import dataclasses
import math
from collections.abc import Sequence
from html import escape

import numpy as np

NUM_COLOURS = 10  # classes c0 … c9 of the style sheet


@dataclasses.dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
      name: for the tooltip and the legend.
      x: positions, ascending.
      y: values; those that aren't finite are left out.
      colour: 0 … NUM_COLOURS - 1.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0


def thin(x: Sequence[float], y: Sequence[float], points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means, minima and maxima of at most ``points`` stretches of a curve: (x, mean, low, high), float64[≤ points]."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    count = min(points, len(x))
    if not count:
        return x, y, y, y
    edges = np.linspace(0, len(x), count + 1).astype(int)[:-1]
    size = np.diff(np.append(edges, len(x)))
    mean_x, mean_y = np.add.reduceat(x, edges) / size, np.add.reduceat(y, edges) / size
    return mean_x, mean_y, np.minimum.reduceat(y, edges), np.maximum.reduceat(y, edges)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) inside [low, high], about ``count`` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """1234567 → 1.2M, 15000 → 15k, 0.25 → 0.25."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def line_chart(lines: Sequence[Line], *, label: str, width: int = 320, height: int = 170, floor: float = 0.0) -> str:
    """An SVG of curves over a common x, with the range of the raw values as a pale band behind each.

    Args:
      lines: the curves.
      label: what is drawn, for those who don't see it.
      width: units of the view box; the picture itself fills its column.
      height: likewise.
      floor: lowest y that is always in view.

    Returns:
      the ``<svg>`` element; a sentence where no line has a finite value.
    """
    curves = [(line, *thin(line.x, line.y, 160)) for line in lines]
    curves = [curve for curve in curves if len(curve[1])]
    if not curves:
        return '<p class="muted">No values logged.</p>'
    left, right, top, bottom = 36, 8, 8, 20
    x_low, x_high = min(c[1][0] for c in curves), max(c[1][-1] for c in curves)
    # A few first steps tower above the rest: the axis ends at the 99th percentile of what was logged.
    values = np.concatenate([np.concatenate([c[2], c[4]]) for c in curves])
    y_low, y_high = min(floor, float(values.min())), float(np.percentile(values, 99))
    y_high = y_high if y_high > y_low else y_low + 1.0
    x_span = (x_high - x_low) or 1.0

    def px(x: float) -> float:
        return round(left + (x - x_low) / x_span * (width - left - right), 1)

    def py(y: float) -> float:
        y = min(max(y, y_low), y_high)
        return round(top + (y_high - y) / (y_high - y_low) * (height - top - bottom), 1)

    parts = [f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">']
    for y in ticks(y_low, y_high):
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{py(y)}" y2="{py(y)}"/>')
        parts.append(f'<text class="tick" x="{left - 5}" y="{py(y) + 3}" text-anchor="end">{number(y)}</text>')
    for x in ticks(x_low, x_high):
        parts.append(f'<text class="tick" x="{px(x)}" y="{height - 5}" text-anchor="middle">{number(x)}</text>')
    for line, xs, mean, low, high in curves:
        colour = f"c{line.colour % NUM_COLOURS}"
        upper = [f"{px(x)},{py(y)}" for x, y in zip(xs, high, strict=True)]
        lower = [f"{px(x)},{py(y)}" for x, y in zip(xs[::-1], low[::-1], strict=True)]
        parts.append(f'<polygon class="band {colour}" points="{" ".join(upper + lower)}"/>')
        points = " ".join(f"{px(x)},{py(y)}" for x, y in zip(xs, mean, strict=True))
        parts.append(f'<polyline class="line {colour}" points="{points}"><title>{escape(line.name)}</title></polyline>')
    return "".join(parts) + "</svg>"


def share_bar(parts: Sequence[tuple[str, float]]) -> str:
    """A bar whose segments have the sizes of the parts' values, for people who see; the numbers stand in a table."""
    total = sum(value for _, value in parts) or 1.0
    cells = "".join(
        f'<span class="c{i % NUM_COLOURS}" style="flex-grow:{value / total:.5f}" title="{escape(name)}"></span>'
        for i, (name, value) in enumerate(parts)
        if value > 0
    )
    return f'<div class="shares" aria-hidden="true">{cells}</div>'
