"""Contact sheets: what a mixture looks like when it reaches the model, as one PNG and one page."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from html import escape

import numpy as np

from paligax.inference.shown import Box
from paligax.reports import page

CELL = 240  # px of a picture's width in the PNG
GAP = 16
LINE = 17  # px of a line of text
MAX_LINES = 6  # of each text in the PNG; the page shows all
_COLOURS = ("#2f6fde", "#d9690a", "#0f8f6c", "#a83b92", "#a87c06", "#5a4bd6", "#cf3f3a", "#4c7d1f")


@dataclasses.dataclass(frozen=True)
class Sample:
    """One example of a mixture.

    Attributes:
      task: its task's name.
      prompt: encoder text.
      target: decoder text.
      image: uint8[H, W, 3]; None for text-only examples.
      boxes: drawn over the image.
      note: e.g. why the example has weight 0.
    """

    task: str
    prompt: str
    target: str
    image: np.ndarray | None = None
    boxes: tuple[Box, ...] = ()
    note: str = ""


def samples_of(batch, task_names: Sequence[str], vocabulary, notes: Sequence[str] = ()) -> list[Sample]:
    """The rows of a TextBatch (numpy leaves) as samples, their ids decoded.

    Args:
      batch: TextBatch.
      task_names: what ``batch.task`` indexes.
      vocabulary: of the batch's ids.
      notes: one a row, or none.
    """
    samples = []
    for i in range(batch.size):
        note = notes[i] if notes else ""
        if not note and not np.asarray(batch.weights[i]).any():
            note = "weight 0"
        samples.append(
            Sample(
                task=task_names[int(batch.task[i])],
                prompt=vocabulary.decode(batch.inputs[i]),
                target=vocabulary.decode(batch.targets[i]),
                image=np.asarray(batch.image[i]) if batch.image_mask[i] else None,
                note=note,
            )
        )
    return samples


def write_contact_sheet(
    path: str | os.PathLike, samples: Sequence[Sample], *, title: str, attribution: str = "", columns: int = 4
) -> tuple[pathlib.Path, pathlib.Path]:
    """Writes PATH.html and PATH.png (whatever suffix the path has) and returns their paths.

    Raises ValueError where there is no sample.
    """
    if not samples:
        raise ValueError("A contact sheet needs at least one sample.")
    base = pathlib.Path(path).with_suffix("")
    html = _write_page(base.with_suffix(".html"), samples, title, attribution)
    png = base.with_suffix(".png")
    image = draw(samples, title, attribution, columns)
    partial = png.with_name(png.name + ".partial")
    image.save(partial, "png")
    os.replace(partial, png)
    return html, png


def _task_colours(samples: Sequence[Sample]) -> dict[str, int]:
    return {task: i % len(_COLOURS) for i, task in enumerate(dict.fromkeys(sample.task for sample in samples))}


def _write_page(path: pathlib.Path, samples: Sequence[Sample], title: str, attribution: str) -> pathlib.Path:
    colours = _task_colours(samples)
    counts = {task: sum(sample.task == task for sample in samples) for task in colours}
    legend = "".join(
        f'<li><span class="swatch c{colours[task]}"></span>{escape(task)} × {count}</li>'
        for task, count in counts.items()
    )
    cards = []
    for sample in samples:
        seen = page.picture(sample.image, sample.boxes) if sample.image is not None else ""
        note = f'<span class="pill">{escape(sample.note)}</span>' if sample.note else ""
        cards.append(
            f'<figure class="card example">{seen}<dl>'
            f'<dd><span class="swatch c{colours[sample.task]}"></span>{escape(sample.task)}{note}</dd>'
            f"<dt>Prompt</dt><dd>{page.text(sample.prompt)}</dd>"
            f'<dt>Target</dt><dd class="said">{page.text(sample.target)}</dd></dl></figure>'
        )
    body = (
        f'<header><h1>{escape(title)}</h1><ul class="legend">{legend}</ul></header>'
        f'<div class="examples">{"".join(cards)}</div>'
        f"<footer>{f'<p>{escape(attribution)}</p>' if attribution else ''}<p>Written by paligax.</p></footer>"
    )
    return page.write(path, title, body)


def _font(size: int, bold: bool = False):
    """DejaVu, which matplotlib carries, so that every machine draws the same sheet."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def _wrap(text: str, font, width: int, max_lines: int) -> list[str]:
    """Lines that fit into width px; words that are too long are cut, and so is what goes beyond max_lines."""
    lines, line = [], ""
    for word in text.split() or ["(empty)"]:
        if line and font.getlength(f"{line} {word}") > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line else word
        while font.getlength(line) > width:
            fits = max(n for n in range(1, len(line) + 1) if n == 1 or font.getlength(line[:n]) <= width)
            if fits == len(line):
                break
            lines.append(line[:fits])
            line = line[fits:]
    lines.append(line)
    if len(lines) > max_lines:
        lines = lines[:max_lines]
        lines[-1] = lines[-1][:-1] + "…"
    return lines


def _draw_boxes(canvas, boxes: Sequence[Box], left: int, top: int, width: int, height: int, font) -> None:
    for i, box in enumerate(boxes):
        colour = _COLOURS[i % len(_COLOURS)]
        x0, y0 = left + box.xmin * width, top + box.ymin * height
        x1, y1 = max(x0, left + box.xmax * width - 1), max(y0, top + box.ymax * height - 1)
        canvas.rectangle((x0, y0, x1, y1), outline=colour, width=2)
        canvas.text((x0 + 4, y0 + 2), box.label, font=font, fill="white", stroke_width=2, stroke_fill=colour)


def draw(samples: Sequence[Sample], title: str, attribution: str = "", columns: int = 4):
    """The sheet as a PIL image; small pictures are enlarged without smoothing, so that their pixels are seen."""
    from PIL import Image, ImageDraw

    small, bold, large = _font(13), _font(13, bold=True), _font(22, bold=True)
    colours = _task_colours(samples)
    cells = []
    for sample in samples:
        size = (CELL, CELL)
        if sample.image is not None:
            size = (CELL, max(1, round(CELL * sample.image.shape[0] / sample.image.shape[1])))
        texts = [("#6a7180", small, line) for line in _wrap(sample.prompt, small, CELL - 20, MAX_LINES)]
        texts += [("#1d2129", bold, line) for line in _wrap(sample.target, bold, CELL - 20, MAX_LINES)]
        if sample.note:
            texts += [("#a1480c", bold, line) for line in _wrap(sample.note, bold, CELL - 20, 2)]
        picture_height = size[1] if sample.image is not None else 0
        cells.append((sample, size, texts, picture_height + 34 + LINE * len(texts) + 10))
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    columns = max(len(row) for row in rows)
    foot = _wrap(attribution, small, columns * (CELL + GAP) - GAP, 4) if attribution else []
    height = 60 + sum(max(cell[3] for cell in row) + GAP for row in rows) + LINE * len(foot) + GAP
    sheet = Image.new("RGB", (GAP + columns * (CELL + GAP), height), "#f3f3f0")
    canvas = ImageDraw.Draw(sheet)
    canvas.text((GAP, 18), title, font=large, fill="#1d2129")
    top = 60
    for row in rows:
        tallest = max(cell[3] for cell in row)
        for column, (sample, size, texts, _) in enumerate(row):
            left, y = GAP + column * (CELL + GAP), top
            canvas.rectangle((left, top, left + CELL - 1, top + tallest - 1), fill="white", outline="#e0e1dc")
            if sample.image is not None:
                crisp = sample.image.shape[1] <= CELL
                how = Image.Resampling.NEAREST if crisp else Image.Resampling.LANCZOS
                enlarged = Image.fromarray(sample.image).resize(size, how)
                sheet.paste(enlarged, (left, y))
                _draw_boxes(canvas, sample.boxes, left, y, *size, bold)
                y += size[1]
            canvas.text((left + 10, y + 10), sample.task, font=bold, fill=_COLOURS[colours[sample.task]])
            y += 34
            for colour, font, line in texts:
                canvas.text((left + 10, y), line, font=font, fill=colour)
                y += LINE
        top += tallest + GAP
    for line in foot:
        canvas.text((GAP, top), line, font=small, fill="#6a7180")
        top += LINE
    return sheet
