"""What an evaluation found: results, counts, examples to be shown; kept on disk, printed for people."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from paligax.inference import scoring, shown
from paligax.inference.intervals import Interval

Results = Mapping[str, Mapping[str, float]]
BLIND = "blind"


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What an evaluation found.

    Attributes:
      results: {task: {metric: value, …, "blind": value}}; the first metric is the headline, "blind" is its value under
        exchanged images and is absent from tasks without images.
      examples: {task: examples to be shown}.
      counts: {task: number of examples scored}.
      seconds: {task: seconds it took}.
      problems: {task: what was counted beside}, see ``problems.summary``.
      intervals: {task: {metric: its 95 % interval}}, where they were asked for.
      answers: {task: all answers}; they are not saved.
    """

    results: Results
    examples: Mapping[str, Sequence[shown.Shown]]
    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    problems: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    intervals: Mapping[str, Mapping[str, Interval]] = dataclasses.field(default_factory=dict)
    answers: Mapping[str, Sequence[scoring.Answer]] = dataclasses.field(default_factory=dict)

    def prompts(self) -> dict[str, str]:
        """A prompt of each task that has any, for the card of an export."""
        return {task: examples[0].prompt for task, examples in self.examples.items() if examples and examples[0].prompt}

    def save(self, directory: str | os.PathLike) -> None:
        """Writes held_out.json, and the examples beside it."""
        directory = pathlib.Path(directory)
        shown.save(directory, self.examples)
        results = {task: {k: scoring.finite(v) for k, v in values.items()} for task, values in self.results.items()}
        described = {
            "results": results,
            "counts": dict(self.counts),
            "seconds": dict(self.seconds),
            "problems": dict(self.problems),
            "intervals": {
                task: {name: dataclasses.asdict(interval) for name, interval in found.items()}
                for task, found in self.intervals.items()
            },
        }
        partial = directory / "held_out.json.partial"
        partial.write_text(json.dumps(described, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(directory / "held_out.json")

    @classmethod
    def load(cls, directory: str | os.PathLike) -> "HeldOut":
        """Reads what ``save`` wrote. Raises FileNotFoundError where there is none."""
        directory = pathlib.Path(directory)
        file = directory / "held_out.json"
        if not file.is_file():
            raise FileNotFoundError(f"No evaluation in {str(directory)!r}: `paligax eval` writes held_out.json there.")
        described = json.loads(file.read_text(encoding="utf-8"))
        results = {
            task: {name: float("nan") if value is None else value for name, value in values.items()}
            for task, values in described["results"].items()
        }
        intervals = {
            task: {name: Interval(**fields) for name, fields in found.items()}
            for task, found in described.get("intervals", {}).items()  # files before it was written
        }
        return cls(
            results,
            shown.load(directory),
            described["counts"],
            described["seconds"],
            described.get("problems", {}),
            intervals,
        )


def print_table(stages: Mapping[str, Results], title: str = "Held-out results") -> None:
    """Prints {stage: results} as a table: a row a task, its headline metric and the control for each stage."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("task")
    table.add_column("metric", style="dim")
    for stage in stages:
        table.add_column(stage, justify="right")
        table.add_column("blind", justify="right", style="dim")
    for task in dict.fromkeys(task for results in stages.values() for task in results):
        headline = next(next(iter(results[task])) for results in stages.values() if task in results)
        row = [task, headline]
        for results in stages.values():
            values = results.get(task, {})
            row += [f"{values[name]:.3f}" if name in values else "–" for name in (headline, BLIND)]
        table.add_row(*row)
    Console().print(table)


def print_examples(found: HeldOut, title: str, each: int = 2) -> None:
    """Prints a few predictions of every task."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text(f"Predictions, {title}", style="bold"))
    for task, examples in found.examples.items():
        for example in examples[:each]:
            asked = f"{example.prompt}  " if example.prompt else ""
            line = Text(f"  {task}  ", style="cyan")
            line.append(asked, style="dim")
            line.append(f"→ {_short(example.prediction) or '(empty)'}", style="bold")
            line.append(f"   (right: {_short(example.target)})", style="dim")
            console.print(line, soft_wrap=True)


def print_task(task: str, found: HeldOut) -> None:
    """Prints a line on one task, as soon as it is done."""
    metrics = found.results[task]
    headline = next(iter(metrics))
    control = f" (blind {metrics[BLIND]:.3f})" if BLIND in metrics else ""
    skipped = "".join(f", {number} left out: {why}" for why, number in found.problems[task]["skipped"].items())
    print(
        f"  {task}: {headline} {metrics[headline]:.3f}{control}, {found.counts[task]:,} examples{skipped} in "
        f"{found.seconds[task]:.1f} s",
        flush=True,
    )


def _short(text: str, length: int = 100) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
