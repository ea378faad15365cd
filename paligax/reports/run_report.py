"""report.html of a run: what was learned, what it scored beside its blind controls, where the time went, examples."""

import dataclasses
import json
import math
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from html import escape

from paligax.inference.held_out import BLIND, HeldOut, Results
from paligax.inference.shown import Shown
from paligax.metrics import LOWER_IS_BETTER
from paligax.reports import page, plots

HELD_OUT = "held_out"  # of a run directory: its evaluation
BOX_LEGEND = (
    '<ul class="legend"><li><span class="swatch frame true"></span>true box, label above</li>'
    '<li><span class="swatch frame dashed predicted"></span>predicted box, label below</li></ul>'
)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of a recipe.

    Attributes:
      name: short, as in results.json.
      title: what was trained on what.
      losses: {task: (steps, losses)}, see ``read_losses``.
      results: {task: {metric: value, …, "blind": value}}; the first metric is the task's headline.
      examples: {task: held-out examples}.
    """

    name: str
    title: str
    losses: Mapping[str, tuple[Sequence[float], Sequence[float]]] = dataclasses.field(default_factory=dict)
    results: Results = dataclasses.field(default_factory=dict)
    examples: Mapping[str, Sequence[Shown]] = dataclasses.field(default_factory=dict)


def read_stage(name: str, title: str, run_directory: str | os.PathLike) -> Stage:
    """A stage from what its run left behind: metrics.jsonl, and held_out/ as ``HeldOut.save`` wrote it."""
    directory = pathlib.Path(run_directory)
    losses = read_losses(directory / "metrics.jsonl") if (directory / "metrics.jsonl").is_file() else {}
    if not (directory / HELD_OUT).is_dir():
        return Stage(name, title, losses)
    found = HeldOut.load(directory / HELD_OUT)
    return Stage(name, title, losses, found.results, found.examples)


def headline(metrics: Mapping[str, float]) -> str:
    """Name of a task's headline metric: the first that isn't the control."""
    return next(name for name in metrics if name != BLIND)


def _value(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"


def gauge(value: float, blind: float | None) -> str:
    """A track from 0 to 1, filled to the value, with a tick at the control; nothing for values beyond it."""
    if not 0 <= value <= 1:
        return ""
    tick = "" if blind is None or not 0 <= blind <= 1 else f'<i style="left:calc({blind * 100:.1f}% - 1px)"></i>'
    return f'<span class="gauge" aria-hidden="true"><b style="width:{value * 100:.1f}%"></b>{tick}</span>'


def _tasks(stages: Sequence[Stage]) -> list[str]:
    """Tasks in the order in which the stages evaluate them."""
    return list(dict.fromkeys(task for stage in stages for task in stage.results))


def _families(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Stages that share tasks belong into one table, beside each other; others have tables of their own."""
    families: list[list[Stage]] = []
    for stage in stages:
        if not stage.results:
            continue
        near = [family for family in families if set(_tasks(family)) & set(stage.results)]
        families = [family for family in families if family not in near]
        families.append([*(relative for family in near for relative in family), stage])
    return families


def _results_tables(stages: Sequence[Stage]) -> str:
    return "".join(map(_results_table, _families(stages))) or '<p class="muted">Nothing was evaluated.</p>'


def _results_table(stages: Sequence[Stage]) -> str:
    rows = []
    for task in _tasks(stages):
        metric = headline(next(stage.results[task] for stage in stages if stage.results.get(task)))
        lower = " ↓" if metric in LOWER_IS_BETTER else ""
        row = [f"{escape(task)}<small>{escape(metric.replace('_', ' '))}{lower}</small>"]
        for stage in stages:
            measured = stage.results.get(task, {})
            value, blind = measured.get(metric), measured.get(BLIND)
            note = "" if blind is None else f"<small>blind {_value(blind)}</small>"
            row.append("" if value is None else f"{gauge(value, blind)}<b>{_value(value)}</b>{note}")
        rows.append(row)
    head = ["Task", *(escape(stage.title) for stage in stages)]
    return page.table(head, rows, [False] * len(head))


def _all_metrics(stages: Sequence[Stage]) -> str:
    rows = []
    for task in _tasks(stages):
        names = dict.fromkeys(name for stage in stages for name in stage.results.get(task, ()))
        for i, name in enumerate(names):
            values = [_value(stage.results.get(task, {}).get(name)) for stage in stages if stage.results]
            rows.append([escape(task) if i == 0 else "", escape(name), *values])
    head = ["Task", "Metric", *(escape(stage.title) for stage in stages if stage.results)]
    return page.table(head, rows, [False, False] + [True] * (len(head) - 2))


def _curves(stages: Sequence[Stage]) -> str:
    """A chart a task; the stages follow each other along x, each in its colour."""
    trained = [stage for stage in stages if stage.losses]
    starts, start = [], 0.0
    for stage in trained:
        starts.append(start)
        start += max((max(steps) for steps, _ in stage.losses.values() if len(steps)), default=0.0)
    charts = []
    for task in dict.fromkeys(task for stage in trained for task in stage.losses):
        lines, last = [], None
        for i, stage in enumerate(trained):
            steps, losses = stage.losses.get(task, ((), ()))
            if len(steps):
                lines.append(plots.Line(f"{task}, {stage.title}", [starts[i] + step for step in steps], losses, i))
                last = losses[-1]
        note = "" if last is None else f"<small>last {last:.3f}</small>"
        chart = plots.line_chart(lines, label=f"Loss of {task} over training steps")
        charts.append(f'<figure class="card"><figcaption>{note}{escape(task)}</figcaption>{chart}</figure>')
    if not charts:
        return '<p class="muted">No losses were logged.</p>'
    legend = "".join(
        f'<li><span class="swatch c{i % plots.NUM_COLOURS}"></span>{escape(stage.title)}</li>'
        for i, stage in enumerate(trained)
    )
    return f'<ul class="legend">{legend}</ul><div class="charts">{"".join(charts)}</div>'


def _seconds(seconds: Mapping[str, float]) -> str:
    total = sum(seconds.values())
    rows = []
    for i, (name, value) in enumerate(seconds.items()):
        swatch = f'<span class="swatch c{i % plots.NUM_COLOURS}"></span>'
        share = f"{value / total:.0%}" if total else "–"
        rows.append([swatch + escape(name.replace("_", " ")), page.duration(value), share])
    rows.append(["Together", page.duration(total), ""])
    return plots.share_bar(list(seconds.items())) + page.table(["", "Time", "Share"], rows, [False, True, True])


def example_card(example: Shown, metric: str) -> str:
    """One example: its picture with boxes, what was asked, what was right, what the model said."""
    drawn = "" if example.image is None else page.picture(example.image, example.true_boxes, example.predicted_boxes)
    return card(example, metric, drawn)


def card(example: Shown, metric: str, drawn: str, attributes: str = "", name: str = "") -> str:
    """The same with its picture as HTML, further attributes of the card, and the example's name at its end."""
    parts = [f'<figure class="card example"{attributes}>', drawn, "<dl>"]
    if example.score is not None:
        good = " good" if example.prediction == example.target or example.shortfall < 1e-3 else ""
        parts.append(f'<span class="pill{good}" title="{escape(metric)} of this example">{example.score:.2f}</span>')
    if example.prompt:
        parts.append(f"<dt>Prompt</dt><dd>{page.text(example.prompt)}</dd>")
    parts.append(f"<dt>Target</dt><dd>{page.text(example.target)}</dd>")
    parts.append(f'<dt>Prediction</dt><dd class="said">{page.text(example.prediction)}</dd>')
    if example.blind_prediction is not None:
        parts.append(f'<dt>With another image</dt><dd class="control">{page.text(example.blind_prediction)}</dd>')
    if name:
        parts.append(f'<dt>Id</dt><dd class="control">{escape(name)}</dd>')
    return "".join(parts) + "</dl></figure>"


def _examples(stage: Stage) -> str:
    parts = []
    for task, shown in stage.examples.items():
        if not shown:
            continue
        metric = headline(stage.results[task]) if stage.results.get(task) else ""
        anchor = re.sub(r"\W+", "-", f"{stage.name}-{task}")
        parts.append(f'<h3 id="{anchor}">{escape(task)}</h3>')
        if any(example.true_boxes or example.predicted_boxes for example in shown):
            parts.append(BOX_LEGEND)
        layout = "examples" if any(example.image is not None for example in shown) else "examples text"
        for title, worst in (("", False), ("Lowest scores", True)):
            cards = "".join(example_card(example, metric) for example in shown if example.worst == worst)
            if cards:
                parts.append(
                    (f'<p class="muted">{title}</p>' if title else "") + f'<div class="{layout}">{cards}</div>'
                )
    return "".join(parts)


def write_run_report(
    path: str | os.PathLike,
    *,
    title: str,
    stages: Sequence[Stage],
    seconds: Mapping[str, float],
    parameters: int,
    summary: str = "",
    attribution: str = "",
) -> pathlib.Path:
    """Writes a self-contained page and returns its path.

    Args:
      path: the file, e.g. runs/quickstart/report.html.
      title: the page's heading.
      stages: in the order in which they ran. Examples are shown of the last stage that evaluated each task.
      seconds: {what: seconds}.
      parameters: number of the model's parameters.
      summary: a sentence or two under the heading.
      attribution: what the licences of the shown pictures ask for.
    """
    if not stages:
        raise ValueError("A run report needs at least one stage.")
    tiles = [
        (plots.number(parameters), "parameters"),
        (page.duration(sum(seconds.values())), "in all"),
        (str(len(_tasks(stages))), "tasks evaluated"),
        (str(len(stages)), "stage" if len(stages) == 1 else "stages"),
    ]
    # The same tasks after several stages: the last evaluation is what the reader came for, the earlier ones fold away.
    seen: set[str] = set()
    latest, earlier = [], []
    for stage in reversed(stages):
        now = {task: shown for task, shown in stage.examples.items() if task not in seen}
        before = {task: shown for task, shown in stage.examples.items() if task in seen}
        seen |= set(now)
        if now:
            latest.insert(0, dataclasses.replace(stage, examples=now))
        if before:
            earlier.insert(0, dataclasses.replace(stage, examples=before))
    body = [
        f"<header><h1>{escape(title)}</h1>",
        f"<p>{escape(summary)}</p>" if summary else "",
        '<dl class="tiles">'
        + "".join(f"<div><dd>{value}</dd><dt>{what}</dt></div>" for value, what in tiles)
        + "</dl>",
        '<nav><a href="#results">Results</a><a href="#losses">Losses</a><a href="#time">Time</a>'
        '<a href="#examples">Examples</a></nav></header>',
        '<h2 id="results">Held-out results</h2>',
        '<p class="muted">Bars run from 0 to 1. The tick and “blind” are the control: the same model on the same '
        "examples with the images exchanged among them, so what it could say without looking. ↓: less is better.</p>",
        _results_tables(stages),
        f"<details><summary>All metrics</summary>{_all_metrics(stages)}</details>",
        '<h2 id="losses">Losses</h2><p class="muted">Training loss a token, per task, over steps; the pale band is the '
        "range of the logged values.</p>",
        _curves(stages),
        '<h2 id="time">Where the time went</h2>',
        _seconds(seconds),
        '<h2 id="examples">Held-out examples</h2>',
        '<p class="muted">Drawn by chance, then those with the lowest scores. Pictures as the model saw them.</p>',
    ]
    for stage in latest:
        body.append(f'<h2 class="stage">{escape(stage.title)}</h2>' if len(latest) > 1 else "")
        body.append(_examples(stage))
    for stage in earlier:
        body.append(f"<details><summary>{escape(stage.title)}: the same tasks</summary>{_examples(stage)}</details>")
    body.append(f"<footer>{f'<p>{escape(attribution)}</p>' if attribution else ''}<p>Written by paligax.</p></footer>")
    return page.write(path, title, "\n".join(part for part in body if part))


def read_losses(path: str | os.PathLike) -> dict[str, tuple[list[float], list[float]]]:
    """Losses per task of a run's metrics.jsonl: {task: (steps, losses)}.

    Reads the keys "loss/<task>" and, where a line has none, "loss". A last line that was cut short by a crash is left
    out; where a run was resumed, a step's later line counts.
    """
    curves: dict[str, dict[float, float]] = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            losses = {key.removeprefix("loss/"): row[key] for key in row if key.startswith("loss/")}
            if not losses and "loss" in row:
                losses = {"loss": row["loss"]}
            for task, value in losses.items():
                if value is not None and math.isfinite(value):
                    curves.setdefault(task, {})[row["step"]] = value
    return {task: ([*sorted(points)], [points[step] for step in sorted(points)]) for task, points in curves.items()}
