"""Scores of a task whose examples are in several languages: each language apart, and their mean."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tasks.parts import text_of


class Spoken(NamedTuple):
    """All right texts of an example, and the language that it is in."""

    lang: str
    references: list[str]


def spoken(output, example, is_target):
    """Postprocessing for ``by_language``: the target becomes Spoken, of `eval/lang` and `eval/references`."""
    if not is_target:
        return output
    return Spoken(text_of(example["lang"]), [text_of(reference) for reference in example["references"]])


def by_language(metric_fn: Callable[[Any, Any], Mapping[str, float]]) -> Callable[[Any, Any], dict[str, float]]:
    """A metric of (references, texts) → one of (Spoken, texts).

    {"mean_<metric>": mean over the languages, each counted once, …, "<metric>_<language>": …}. Published figures of
    XM3600, xGQA, XNLI, XQuAD and TyDi QA are such means.
    """

    def metric(targets, predictions):
        of: dict[str, list[int]] = {}
        for i, target in enumerate(targets):
            of.setdefault(target.lang or "und", []).append(i)
        scores = {
            lang: metric_fn([targets[i].references for i in rows], [predictions[i] for i in rows])
            for lang, rows in sorted(of.items())
        }
        names = list(next(iter(scores.values()))) if scores else []
        means = {f"mean_{name}": float(np.mean([values[name] for values in scores.values()])) for name in names}
        return means | {f"{name}_{lang}": float(values[name]) for name in names for lang, values in scores.items()}

    return metric
