"""eval.html: the scores of an evaluation with their intervals and controls, what was counted, and examples to browse.

One file without network: pictures are inside, at most `MAX_BYTES` of them. The page is complete without its script,
which filters and searches the cards that are there.
"""

import base64
import dataclasses
import io
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from paligax.inference import problems, results
from paligax.inference.generation import Decoding
from paligax.inference.held_out import BLIND, HeldOut
from paligax.inference.shown import Shown, png_bytes
from paligax.metrics import LOWER_IS_BETTER
from paligax.reports import page, run_report

MAX_BYTES = 24 * 2**20  # of pictures, in all
MAX_SIDE = 384  # px; larger pictures are reduced for the page
_AS_PNG = 128  # px: up to this side pictures are stored without loss
_MAX_TEXT = 2000  # letters of each text on a card

_SCRIPT = """
const cards = [...document.querySelectorAll('.card.example')];
const words = cards.map(card => card.textContent.toLowerCase());
const task = document.getElementById('task'), kind = document.getElementById('kind');
const find = document.getElementById('find'), order = document.getElementById('order');
const count = document.getElementById('count');
function filter() {
  const wanted = find.value.toLowerCase().split(/\\s+/).filter(Boolean);
  let shown = 0;
  cards.forEach((card, i) => {
    const fits = (!task.value || card.dataset.task === task.value) && (!kind.value || card.dataset.kind === kind.value)
      && wanted.every(word => words[i].includes(word));
    card.hidden = !fits;
    shown += fits;
  });
  document.querySelectorAll('section.task').forEach(section => {
    section.hidden = !section.querySelector('.card.example:not([hidden])');
  });
  count.textContent = shown + ' of ' + cards.length + ' examples';
}
function sort() {
  const sign = order.value === 'best' ? -1 : 1;
  document.querySelectorAll('section.task .examples').forEach(grid => {
    [...grid.children].sort((a, b) => sign * (a.dataset.rank - b.dataset.rank)).forEach(card => grid.append(card));
  });
}
[task, kind].forEach(field => field.addEventListener('change', filter));
find.addEventListener('input', filter);
order.addEventListener('change', sort);
document.getElementById('filters').hidden = false;
filter();
"""
_STYLE = """
#filters { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: .5rem .9rem; align-items: center;
  padding: .6rem 0; background: var(--paper); border-bottom: 1px solid var(--rule); }
#filters[hidden], .card[hidden], section[hidden] { display: none; }
#filters label { color: var(--muted); font-size: .82rem; }
#filters select, #filters input { font: inherit; font-size: .9rem; padding: .2rem .45rem; border: 1px solid var(--rule);
  border-radius: 6px; background: var(--card); color: var(--ink); max-width: 14rem; }
#count { color: var(--muted); font-size: .82rem; }
"""


def write_eval_report(
    path: str | os.PathLike, found: HeldOut, about: Mapping[str, Any], max_bytes: int = MAX_BYTES
) -> pathlib.Path:
    """Writes a self-contained page and returns its path.

    Args:
      path: the file.
      found: of an evaluation.
      about: what was evaluated and how: plain values, as in results.json.
      max_bytes: of the pictures; where they are more, every task shows fewer examples, and the page says so.
    """
    described = {task: results.task_results(found, task) for task in found.results}
    chosen, pictures = _within(found.examples, max_bytes)
    total = sum(one["examples"] for one in described.values())
    tiles = [
        (str(len(described)), "task" if len(described) == 1 else "tasks"),
        (f"{total:,}", "examples scored"),
        (f"{sum(sum(one['problems']['skipped'].values()) for one in described.values()):,}", "left out"),
        (page.duration(sum(found.seconds.values())), "in all"),
    ]
    body = [
        f"<style>{_STYLE}</style>",
        "<header><h1>Held-out evaluation</h1>",
        f"<p>{escape(_about(about))}</p>",
        '<dl class="tiles">' + "".join(f"<div><dd>{v}</dd><dt>{what}</dt></div>" for v, what in tiles) + "</dl>",
        '<nav><a href="#scores">Scores</a><a href="#counted">What was counted</a>'
        '<a href="#examples">Examples</a></nav>',
        "</header>",
        '<h2 id="scores">Scores</h2>',
        '<p class="muted">In brackets 95 % bootstrap intervals over the examples. “Blind” is the control: the same '
        "model on the same examples with the images exchanged among them, so what it could say without looking. ↓: "
        "less is better.</p>",
        _scores(described),
        f"<details><summary>All metrics</summary>{_all_metrics(described)}</details>",
        '<h2 id="counted">What was counted</h2>',
        _counted(described),
        '<h2 id="examples">Examples</h2>',
        _limits(found, chosen),
        _filters(list(chosen)),
        *(_section(task, shown, described[task], pictures) for task, shown in chosen.items() if shown),
        f"<footer><p>Written by paligax.</p></footer><script>{_SCRIPT}</script>",
    ]
    title = f"Evaluation of {about.get('checkpoint', '')}"
    return page.write(path, title, "\n".join(body))


def _about(about: Mapping[str, Any]) -> str:
    said = [f"{key.replace('_', ' ')}: {value}" for key, value in about.items() if isinstance(value, str | int)]
    decoding = about.get("decoding")
    if isinstance(decoding, Mapping):
        plain = dataclasses.asdict(Decoding())
        chosen = [f"{name.replace('_', ' ')} {value}" for name, value in decoding.items() if value != plain.get(name)]
        said.append(f"decoding: {', '.join(chosen) or 'greedily'}")
    return "; ".join(said)


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(one: Mapping[str, Any], name: str) -> str:
    interval = one["confidence_intervals"].get(name)
    if interval is None or interval["low"] is None:
        return ""
    return f"[{interval['low']:.3f}, {interval['high']:.3f}]"


def _scores(described: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for task, one in described.items():
        name = one["headline"]
        arrow = " ↓" if one["lower_is_better"] else ""
        why = f"<small>{escape(one['undefined'][name])}</small>" if name in one["undefined"] else ""
        value, blind = one["metrics"][name], one["blind"]
        gauge = "" if value is None else run_report.gauge(value, blind)
        control = "" if blind is None else f"{_value(blind)}<small>{_interval(one, BLIND)}</small>"
        rows.append(
            [
                f"{escape(task)}<small>{escape(name.replace('_', ' '))}{arrow}</small>",
                f"{gauge}<b>{_value(value)}</b><small>{_interval(one, name)}</small>{why}",
                control,
                f"{one['examples']:,}",
            ]
        )
    return page.table(["Task", "Score", "Blind", "Examples"], rows, [False, False, False, True])


def _all_metrics(described: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for task, one in described.items():
        for i, (name, value) in enumerate(one["metrics"].items()):
            arrow = " ↓" if name in LOWER_IS_BETTER else ""
            interval = one["confidence_intervals"].get(name)
            how = "" if interval is None else f"{interval['resamples']:,} resamples, {interval['method']}"
            note = escape(one["undefined"].get(name, how))
            rows.append(
                [escape(task) if i == 0 else "", escape(name) + arrow, _value(value), _interval(one, name), note]
            )
    return page.table(["Task", "Metric", "Value", "95 %", ""], rows, [False, False, True, True, False])


def _counted(described: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for task, one in described.items():
        counts = one["problems"]
        found = [(f"left out: {reason}", number, "") for reason, number in counts["skipped"].items()]
        found += [
            (name.replace("_", " "), counts[name], meaning)
            for name, meaning in problems.MEANINGS.items()
            if counts.get(name)
        ]
        found += [
            (f"pieces that are no box: {kind.replace('_', ' ')}", number, "")
            for kind, number in counts.get("unreadable_pieces", {}).items()
        ]
        for i, (what, number, meaning) in enumerate(found):
            rows.append([escape(task) if i == 0 else "", f"{escape(what)}<small>{meaning}</small>", f"{number:,}"])
    if not rows:
        return '<p class="muted">Every example was scored, and nothing was cut or unreadable.</p>'
    return page.table(["Task", "What", "Number"], rows, [False, False, True])


def _limits(found: HeldOut, chosen: Mapping[str, Sequence[Shown]]) -> str:
    shown = sum(map(len, chosen.values()))
    kept = sum(map(len, found.examples.values()))
    fewer = f" (of {kept:,} that were kept, so that the pictures fit into the page)" if shown < kept else ""
    return (
        f'<p class="muted">{shown:,} examples{fewer} of {sum(found.counts.values()):,}: of each task some drawn by '
        "chance, and those with the lowest scores (Evaluator.num_shown), the worst first. All are in "
        "predictions.jsonl. Pictures as the model saw them.</p>"
    )


def _filters(tasks: Sequence[str]) -> str:
    options = "".join(f'<option value="{escape(task)}">{escape(task)}</option>' for task in tasks)
    return (
        '<div id="filters" hidden>'
        f'<label>Task <select id="task"><option value="">all</option>{options}</select></label>'
        '<label>Which <select id="kind"><option value="">all</option><option value="lowest">lowest scores</option>'
        '<option value="chance">drawn by chance</option></select></label>'
        '<label>Order <select id="order"><option value="worst">worst first</option>'
        '<option value="best">best first</option></select></label>'
        '<label>Search <input id="find" type="search" placeholder="words"></label><span id="count"></span></div>'
    )


def _section(task: str, shown: Sequence[Shown], one: Mapping[str, Any], pictures: Mapping[int, str]) -> str:
    anchor = re.sub(r"\W+", "-", task)
    name = one["headline"]
    control = "" if one["blind"] is None else f", blind {_value(one['blind'])} {_interval(one, BLIND)}"
    parts = [
        f'<section class="task"><h3 id="{anchor}">{escape(task)}</h3><p class="muted">'
        f"{escape(name.replace('_', ' '))} {_value(one['metrics'][name])} {_interval(one, name)}{control}</p>"
    ]
    if any(example.true_boxes or example.predicted_boxes for example in shown):
        parts.append(run_report.BOX_LEGEND)
    layout = "examples" if any(example.image is not None for example in shown) else "examples text"
    cards = [_card(task, rank, example, name, pictures) for rank, example in enumerate(_worst_first(shown))]
    return "".join([*parts, f'<div class="{layout}">', *cards, "</div></section>"])


def _worst_first(shown: Sequence[Shown]) -> list[Shown]:
    return sorted(shown, key=lambda e: -np.inf if e.shortfall is None else e.shortfall, reverse=True)


def _card(task: str, rank: int, example: Shown, metric: str, pictures: Mapping[int, str]) -> str:
    """An example's card, with what the script filters and sorts by."""
    short = dataclasses.replace(
        example,
        **{
            name: text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
            for name in ("prompt", "target", "prediction", "blind_prediction")
            if (text := getattr(example, name)) is not None
        },
    )
    drawn = ""
    if example.image is not None:
        drawn = page.framed(pictures[id(example)], *_size(example.image), example.true_boxes, example.predicted_boxes)
    kind = "lowest" if example.worst else "chance"
    attributes = f' data-task="{escape(task)}" data-kind="{kind}" data-rank="{rank}"'
    return run_report.card(short, metric, drawn, attributes, name=example.id)


def _within(examples: Mapping[str, Sequence[Shown]], max_bytes: int) -> tuple[dict[str, list[Shown]], dict[int, str]]:
    """As many examples of each task as fit, and the pictures of those as data URIs, by ``id`` of the example."""
    pictures: dict[int, str] = {}
    chosen: dict[str, list[Shown]] = {task: [] for task in examples}
    used = 0
    for example, task in _in_turn(examples):
        if example.image is not None:
            uri = _data_uri(example.image)
            if used + len(uri) > max_bytes:
                continue
            used += len(uri)
            pictures[id(example)] = uri
        chosen[task].append(example)
    return chosen, pictures


def _in_turn(examples: Mapping[str, Sequence[Shown]]) -> Iterator[tuple[Shown, str]]:
    """(example, task), a round at a time: of every task its next one by chance and its next lowest."""
    queues = [
        (task, [example for example in shown if example.worst == worst])
        for task, shown in examples.items()
        for worst in (False, True)
    ]
    for i in range(max((len(queue) for _, queue in queues), default=0)):
        for task, queue in queues:
            if i < len(queue):
                yield queue[i], task


def _size(image: np.ndarray) -> tuple[int, int]:
    """(width, height) on the page."""
    height, width = image.shape[:2]
    scale = min(1.0, MAX_SIDE / max(height, width))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _data_uri(image: np.ndarray) -> str:
    """uint8[H, W, 3] as PNG where it is small, else as JPEG, reduced to MAX_SIDE."""
    from PIL import Image

    if max(image.shape[:2]) <= _AS_PNG:
        return f"data:image/png;base64,{base64.b64encode(png_bytes(image)).decode()}"
    reduced = Image.fromarray(np.asarray(image, np.uint8)).resize(_size(image), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    reduced.save(buffer, "jpeg", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
