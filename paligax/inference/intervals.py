"""How sure a score is: 95 % bootstrap intervals over examples (Efron 1979), of any metric function.

A metric over N examples is first taken apart, so that a thousand resamples cost a thousand sums:

    mean    the metric is the mean of its values on single examples (NaN left out): accuracies, token_f1, ROUGE-L, …
    ratio   it is a sum over examples divided by another (error rates, token accuracy, share of malformed boxes). The
            divisor's parts are found from the metric's values on pairs of examples.
    cider   it is the mean of the examples' CIDEr-D, the document frequencies of all references kept
    bleu    it is a function of summed counts of n-grams
    ap      it is average precision of boxes: which are right is settled within an image

Each is believed only where it gives the very value of the whole set, and of two resamples. Any other metric is computed
anew on each resample, and there are fewer of them where examples are many; below 200 the interval is the value ± 1.96
standard deviations of the resamples instead of their 2.5 and 97.5 percentiles. Of more than 2,500 examples, 40
resamples of 2,500 are drawn, and their deviation is scaled by the root of the numbers' ratio.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from paligax.inference import scoring
from paligax.inference.box_intervals import AveragePrecisions
from paligax.metrics import Boxes, bleu, ptb_words, words
from paligax.metrics.cider import ngrams

_ANEW = 100_000  # examples that are scored anew, all resamples together
_FEWEST = 40  # resamples of them
_FOR_PERCENTILES = 200
_RANKED = 400_000  # examples whose boxes are ranked, all resamples together; but at least _FOR_PERCENTILES resamples
_CLOSE = {"rtol": 1e-7, "atol": 1e-10}

# int64[resamples, N] of indices → float64[resamples]
Resampled = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval.

    Attributes:
      low, high: its ends.
      resamples: of the examples, from which it was made.
      method: "percentile" or "normal".
      of: "mean", "ratio", "cider", "bleu", "ap" or "anew": how the metric was computed on a resample.
    """

    low: float
    high: float
    resamples: int
    method: str
    of: str


def intervals(
    metric_fn: scoring.MetricFn,
    targets: Sequence[Any],
    predictions: Sequence[Any],
    *,
    seed: Sequence[int],
    resamples: int,
) -> dict[str, Interval]:
    """The interval of each value of a metric function; values that aren't finite, and single examples, have none.

    Args:
      metric_fn: (targets, predictions) → {metric: value}.
      targets, predictions: of all examples.
      seed: of the resamples. Equal seeds and numbers of examples give equal resamples, so that metrics are compared.
      resamples: how many.
    """
    count = len(targets)
    whole = scoring.measure([metric_fn], targets, predictions)
    wanted = {name: value for name, value in whole.items() if math.isfinite(value)}
    if count < 2 or not wanted:
        return {}

    def on(indices: Sequence[int]) -> dict[str, float]:
        try:
            return scoring.measure([metric_fn], [targets[i] for i in indices], [predictions[i] for i in indices])
        except Exception:  # noqa: BLE001  (whatever a metric has against a resample, the scores stand)
            return {}

    single = [on([i]) for i in range(count)]
    trials = [(trial, on(trial)) for trial in np.random.default_rng([*seed, 1]).integers(0, count, (2, count))]
    found: dict[str, Interval] = {}
    precisions = _precisions(wanted, targets, predictions)
    for name, value in wanted.items():
        alone = np.array([values.get(name, math.nan) for values in single])
        for kind, form in _forms(name, alone, on, targets, predictions, value, precisions):
            checks = [(np.arange(count), value), *((t, values.get(name, math.nan)) for t, values in trials)]
            with np.errstate(all="ignore"):
                if all(np.allclose(form(t[None]), v, equal_nan=True, **_CLOSE) for t, v in checks[: _CHECKS[kind]]):
                    many = min(resamples, max(_RANKED // count, _FOR_PERCENTILES)) if kind == "ap" else resamples
                    samples = np.concatenate([form(chunk) for chunk in _chunks(seed, count, many)])
                    found[name] = _interval(value, samples, kind)
                    break
    if left := [name for name in wanted if name not in found]:
        size = min(count, _ANEW // _FEWEST)
        fewer = min(resamples, _ANEW // size)
        anew = [on(sample[:size]) for chunk in _chunks(seed, count, fewer) for sample in chunk]
        for name in left:
            samples = np.array([values.get(name, math.nan) for values in anew])
            found[name] = _interval(wanted[name], samples, "anew", (size / count) ** 0.5)
    return found


# How many checks each form must pass: the whole set, and two resamples. CIDEr weighs words by their frequency in a set,
# so that a resample scored anew has another value than one with the frequencies kept.
_CHECKS = {"mean": 3, "ratio": 3, "cider": 1, "bleu": 3, "ap": 3}
# Metric → which of COCO's thresholds it is the mean of.
_PRECISIONS = {"ap": slice(None), "ap50": slice(0, 1), "ap75": slice(5, 6)}


def _interval(value: float, samples: np.ndarray, of: str, scale: float = 1.0) -> Interval:
    samples = samples[np.isfinite(samples)]
    if len(samples) >= _FOR_PERCENTILES and scale == 1.0:
        low, high = np.percentile(samples, [2.5, 97.5])
        return Interval(float(low), float(high), len(samples), "percentile", of)
    margin = 1.96 * scale * float(samples.std(ddof=1)) if len(samples) > 1 else math.nan
    return Interval(value - margin, value + margin, len(samples), "normal", of)


def _chunks(seed: Sequence[int], count: int, resamples: int) -> Iterator[np.ndarray]:
    """int64[≤ n, count]: all resamples, a few million indices at a time."""
    rng = np.random.default_rng([*seed, 0])
    size = max(2**22 // count, 1)
    for start in range(0, resamples, size):
        yield rng.integers(0, count, (min(size, resamples - start), count))


def _precisions(names: Iterable[str], targets: Sequence[Any], predictions: Sequence[Any]) -> AveragePrecisions | None:
    """None where no metric is average precision of boxes, by its name."""
    boxes = all(isinstance(value, Boxes) for value in (*targets, *predictions))
    return AveragePrecisions(targets, predictions) if boxes and set(names) & set(_PRECISIONS) else None


def _forms(
    name: str,
    alone: np.ndarray,
    on: Callable,
    targets: Sequence[Any],
    predictions: Sequence[Any],
    value: float,
    precisions: AveragePrecisions | None,
) -> Iterator[tuple[str, Resampled]]:
    """What the metric may be, the likeliest first."""
    if precisions is not None and name in _PRECISIONS:
        at = _PRECISIONS[name]
        yield "ap", lambda indices: np.array([precisions.of(sample)[at].mean() for sample in indices])
    yield "mean", lambda indices: np.nanmean(alone[indices], axis=1)
    if name == "cider" and (scores := scoring.cider_scores(value, targets, predictions)) is not None:
        yield "cider", lambda indices: scores[indices].mean(axis=1)
    if name.startswith("bleu_") and (parts := _bleu_parts(name, targets, predictions, value)) is not None:
        yield "bleu", parts
    if (weights := _weights(name, alone, on)) is not None:
        above = np.nan_to_num(alone) * weights
        yield "ratio", lambda indices: above[indices].sum(axis=1) / weights[indices].sum(axis=1)


def _weights(name: str, alone: np.ndarray, on: Callable) -> np.ndarray | None:
    """float64[N]: the divisor's part b of each example, were the metric Σa / Σb; up to a common factor.

    Beside a known example r, θ(i, r) = (aᵢ + aᵣ) / (bᵢ + bᵣ), so that bᵢ (θᵢ − θ) = bᵣ (θ − θᵣ), where θᵢ = aᵢ / bᵢ is
    the metric on example i alone. Of two known ones, the one whose θᵣ is further from θᵢ is taken. An example on which
    the metric has no value (nothing in it counts) weighs nothing. None where the metric can't be one of this kind.
    """
    there = np.flatnonzero(np.isfinite(alone))
    if len(there) < 2:
        return None
    high = int(there[alone[there].argmax()])
    weights = np.zeros(len(alone))
    weights[high] = 1.0
    for low in map(int, there[alone[there].argsort(kind="stable")]):
        if alone[low] == alone[high]:
            return None
        weights[low] = _beside(name, high, low, 1.0, alone, on)
        if weights[low] > 0:  # the first one that weighs something
            break
    for i in map(int, there):
        if i not in (low, high):
            r = high if alone[high] - alone[i] > alone[i] - alone[low] else low
            weights[i] = _beside(name, r, i, weights[r], alone, on)
    return weights if np.isfinite(weights).all() else None


def _beside(name: str, r: int, i: int, weight: float, alone: np.ndarray, on: Callable) -> float:
    both = on([i, r]).get(name, math.nan)
    return weight * (both - alone[r]) / (alone[i] - both) if alone[i] != both else math.inf


def _bleu_parts(name: str, targets: Sequence[Any], predictions: Sequence[str], value: float) -> Resampled | None:
    """BLEU-n from each example's counts; None where the value isn't that of either way of splitting into words."""
    order = name.removeprefix("bleu_")
    if order not in ("1", "2", "3", "4"):
        return None
    for tokenize in (words, ptb_words):
        try:
            if not np.isclose(bleu(targets, predictions, tokenize)[int(order) - 1], value, **_CLOSE):
                continue
        except (TypeError, ValueError):
            return None
        table = np.array([_bleu_counts(t, p, tokenize) for t, p in zip(targets, predictions, strict=True)], np.float64)

        def resampled(indices: np.ndarray, table: np.ndarray = table) -> np.ndarray:
            sums = np.stack([table[sample].sum(axis=0) for sample in indices])
            right, given, length, wanted = sums[:, :4], sums[:, 4:8], sums[:, 8], sums[:, 9]
            precision = ((right + 1e-15) / (given + 1e-9))[:, : int(order)].prod(axis=1) ** (1 / int(order))
            return precision * np.exp(np.minimum(1 - wanted / np.maximum(length, 1e-9), 0))

        return resampled
    return None


def _bleu_counts(texts: Sequence[str], prediction: str, tokenize: Callable[[str], list[str]]) -> list[int]:
    """n-grams of the prediction that are right, and all, by length 1 … 4; its length, the nearest reference's."""
    tokens, alternatives = tokenize(prediction), [tokenize(text) for text in texts]
    most = ngrams([])
    for other in alternatives:
        most |= ngrams(other)
    right, given = [0] * 4, [0] * 4
    for ngram, number in ngrams(tokens).items():
        given[len(ngram) - 1] += number
        right[len(ngram) - 1] += min(number, most[ngram])
    nearest = min((abs(len(other) - len(tokens)), len(other)) for other in alternatives)[1]
    return [*right, *given, len(tokens), nearest]
