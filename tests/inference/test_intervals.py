"""Intervals are those of scoring every resample anew, and cost no more than sums where the metric allows it."""

import numpy as np
import pytest

from paligax import metrics
from paligax.inference.intervals import _chunks, intervals
from paligax.metrics import METRIC_FNS

WORDS = ["a", "red", "cat", "on", "the", "mat", "two", "dogs", "run", "under", "one", "house"]
RESAMPLES = 200


def texts(rng, count, least=4, most=9):
    return [" ".join(rng.choice(WORDS, rng.integers(least, most))) for _ in range(count)]


def noisy(rng, given):
    return [" ".join(w for w in t.split() if rng.random() < 0.8) or "cat" for t in given]


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    right = texts(rng, 16)
    return right, noisy(rng, right)


def by_hand(metric_fn, targets, predictions, *names):
    """The percentiles of the metric on the same resamples, each scored anew."""
    samples = [sample for chunk in _chunks([5], len(targets), RESAMPLES) for sample in chunk]
    found = [metric_fn([targets[i] for i in sample], [predictions[i] for i in sample]) for sample in samples]
    return [np.percentile([values[name] for values in found], [2.5, 97.5]) for name in names]


def ends(found, *names):
    return [[found[name].low, found[name].high] for name in names]


@pytest.mark.parametrize(
    "name, several, of",
    [
        ("exact_match", True, "mean"),
        ("token_f1", True, "mean"),
        ("rouge_l", True, "mean"),
        ("character_error_rate", False, "ratio"),
        ("word_error_rate", False, "ratio"),
    ],
)
def test_equal_those_of_scoring_each_resample_anew(pairs, name, several, of):
    targets, predictions = pairs
    targets = [[t, t.upper()] for t in targets] if several else targets
    found = intervals(METRIC_FNS[name], targets, predictions, seed=[5], resamples=RESAMPLES)
    assert (found[name].of, found[name].method, found[name].resamples) == (of, "percentile", RESAMPLES)
    np.testing.assert_allclose(ends(found, name), by_hand(METRIC_FNS[name], targets, predictions, name))
    assert found[name].low < METRIC_FNS[name](targets, predictions)[name] < found[name].high


def test_token_accuracy_is_a_ratio_with_examples_of_no_weight():
    rng = np.random.default_rng(1)
    targets = [[int(x) for x in rng.integers(0, 9, rng.integers(0, 7))] for _ in range(50)]
    predictions = [[t if rng.random() < 0.7 else 99 for t in row] for row in targets]
    found = intervals(METRIC_FNS["token_accuracy"], targets, predictions, seed=[5], resamples=RESAMPLES)
    assert found["token_accuracy"].of == "ratio"
    expected = by_hand(METRIC_FNS["token_accuracy"], targets, predictions, "token_accuracy")
    np.testing.assert_allclose(ends(found, "token_accuracy"), expected)


def test_an_error_rate_apart_for_some_words_is_a_ratio_of_the_examples_that_have_them():
    rng = np.random.default_rng(0)
    targets = texts(rng, 30)  # of few, some resamples have no unseen word
    pairs = targets, noisy(rng, targets)

    def metric_fn(targets, predictions):
        return metrics.character_error_rate(targets, predictions, unseen_words=("house",))

    found = intervals(metric_fn, *pairs, seed=[5], resamples=RESAMPLES)
    assert {name: interval.of for name, interval in found.items()} == dict.fromkeys(found, "ratio")
    assert len(found) == 3
    np.testing.assert_allclose(ends(found, *found), by_hand(metric_fn, *pairs, *found))


def test_captions_keep_the_document_frequencies_and_bleu_its_counts(pairs):
    targets = [[t, t.replace("cat", "kitten")] for t in pairs[0]]
    found = intervals(METRIC_FNS["coco_captions"], targets, pairs[1], seed=[5], resamples=RESAMPLES)
    of = {name: interval.of for name, interval in found.items()}
    assert of == {"cider": "cider", "rouge_l": "mean", **{f"bleu_{n}": "bleu" for n in (1, 2, 3, 4)}}
    expected = by_hand(METRIC_FNS["coco_captions"], targets, pairs[1], "bleu_1", "bleu_4")
    np.testing.assert_allclose(ends(found, "bleu_1", "bleu_4"), expected, rtol=1e-6)
    scores = metrics.cider_scores(targets, pairs[1])
    means = np.concatenate([scores[chunk].mean(axis=1) for chunk in _chunks([5], 16, RESAMPLES)])
    np.testing.assert_allclose(ends(found, "cider"), [np.percentile(means, [2.5, 97.5])])
    plain = intervals(METRIC_FNS["cider"], targets, pairs[1], seed=[5], resamples=RESAMPLES)["cider"]
    assert plain == found["cider"]  # these words are split alike


def boxes(rng, count, scores):
    """Up to three boxes of two classes an image, some found, some not, some twice."""
    targets, predictions = [], []
    for _ in range(count):
        corners = np.sort(rng.random((rng.integers(0, 4), 2, 2)), axis=1).reshape(-1, 4)
        labels = tuple(rng.choice(["cat", "Dog"], len(corners)))
        kept = rng.choice(len(corners), rng.integers(0, len(corners) + 1)) if len(corners) else []
        near = corners[kept] + 0.02 * rng.normal(size=(len(kept), 4))
        found = metrics.Boxes(near, [labels[i] for i in kept], rng.random(len(kept)).round(1) if scores else None)
        targets.append(metrics.Boxes(corners, labels))
        predictions.append(found)
    return targets, predictions


@pytest.mark.parametrize("scores", [False, True])
def test_average_precision_ranks_the_boxes_of_each_resample(scores):
    pairs = boxes(np.random.default_rng(2), 25, scores)
    found = intervals(METRIC_FNS["detection"], *pairs, seed=[5], resamples=RESAMPLES)
    assert found["ap50"].of == found["ap"].of == "ap" and found["ap50"].method == "percentile"
    np.testing.assert_allclose(ends(found, "ap50", "ap"), by_hand(METRIC_FNS["detection"], *pairs, "ap50", "ap"))
    few = intervals(METRIC_FNS["detection"], *pairs, seed=[5], resamples=50)["ap"]
    assert few.method == "normal" and few.resamples == 50
    value = METRIC_FNS["detection"](*pairs)["ap"]
    assert few.low < value < few.high and abs(value - few.low - (few.high - value)) < 1e-12


def test_questions_that_nobody_answered_are_left_out():
    targets = [["yes"] * 10, ["no"] * 10, [], ["red"] * 10] * 10
    predictions = ["yes", "yes", "yes", "red"] * 10
    found = intervals(METRIC_FNS["vqa_accuracy"], targets, predictions, seed=[5], resamples=RESAMPLES)["vqa_accuracy"]
    assert found.of == "mean" and found.low < 2 / 3 < found.high


def test_the_width_is_that_of_the_binomial_distribution():
    targets = [["x"]] * 1000
    predictions = ["x"] * 800 + ["y"] * 200
    found = intervals(METRIC_FNS["exact_match"], targets, predictions, seed=[5], resamples=4000)["exact_match"]
    np.testing.assert_allclose([found.low, found.high], 0.8 + np.array([-1, 1]) * 1.96 * 0.4 / 1000**0.5, atol=2e-3)


def test_equal_seeds_give_equal_intervals_and_others_others(pairs):
    targets = [[t] for t in pairs[0]]
    one, again, other = (
        intervals(METRIC_FNS["token_f1"], targets, pairs[1], seed=[s], resamples=RESAMPLES) for s in (1, 1, 2)
    )
    assert one == again != other


def test_values_that_are_no_numbers_and_single_examples_have_none():
    nobody = [metrics.Boxes(np.zeros((0, 4)), ())] * 3
    assert set(intervals(METRIC_FNS["detection"], nobody, nobody, seed=[0], resamples=50)) == {"malformed"}
    assert intervals(METRIC_FNS["exact_match"], [["a"]], ["a"], seed=[0], resamples=50) == {}


def test_a_function_that_is_nothing_of_this_is_scored_anew():
    def median(targets, predictions):
        return {"median": float(np.median(np.abs(np.asarray(targets) - np.asarray(predictions))))}

    rng = np.random.default_rng(3)
    found = intervals(median, list(rng.normal(size=41)), list(rng.normal(size=41)), seed=[5], resamples=RESAMPLES)
    assert found["median"].of == "anew" and found["median"].low < found["median"].high


def test_of_many_examples_fewer_are_scored_anew():
    sizes = []

    def spread(targets, predictions):
        sizes.append(len(targets))
        return {"spread": float(np.std(targets))}

    values = list(np.random.default_rng(4).normal(size=10_000))
    found = intervals(spread, values, values, seed=[5], resamples=1000)["spread"]
    assert (found.of, found.method, found.resamples) == ("anew", "normal", 40)
    assert sizes.count(2500) == 40
    expected = 1.96 / (2 * 10_000) ** 0.5  # of the standard deviation of a normal distribution
    assert 0.6 * expected < (found.high - found.low) / 2 < 1.4 * expected


def test_a_metric_that_refuses_a_resample_spoils_nothing():
    def picky(targets, predictions):
        if 0 not in targets:
            raise KeyError("no zero")
        return {"mean": float(np.mean(targets)), "square": float(np.mean(targets)) ** 2}

    found = intervals(picky, list(range(9)), list(range(9)), seed=[5], resamples=400)["square"]
    assert found.of == "anew" and 200 < found.resamples < 300 and found.low < 16 < found.high


def given(name):
    """Imperfect answers to a dozen examples, as the metric takes them."""
    rng = np.random.default_rng(6)
    right = texts(rng, 12)
    answers = noisy(rng, right)
    labels, scores = (rng.random((12, 4)) < 0.5).astype(float), rng.random((12, 4))
    several = [[t] * 10 for t in right]
    if name.endswith("_by_type"):
        kinds = ["number", "other"] * 6
        return [metrics.Question(tuple(r), k, "is") for r, k in zip(several, kinds, strict=True)], answers
    return {
        "answerability": (list(labels[:, 0]), list(scores[:, 0])),
        "character_error_rate": (right, answers),
        "word_error_rate": (right, answers),
        "list_match": (right, answers),
        "token_accuracy": ([[1, 2, 3]] * 12, [[1, 2, 3]] * 6 + [[1, 4]] * 6),
        "detection": boxes(rng, 12, False),
        "box_problems": (boxes(rng, 12, False)[0], [metrics.parse_boxes("1 2 3 4 cat 5")] * 12),
        "top_k_accuracy": (list(rng.integers(0, 4, 12)), list(scores)),
        "mean_average_precision": (list(labels), list(scores)),
        "precision_at_1": (list(labels), list(scores)),
    }.get(name, (several, answers))


@pytest.mark.parametrize("name", METRIC_FNS)
def test_every_metric_of_the_table_has_intervals(name):
    targets, predictions = given(name)
    values = METRIC_FNS[name](targets, predictions)
    found = intervals(METRIC_FNS[name], targets, predictions, seed=[5], resamples=40)
    assert set(found) == set(values)
    for each, interval in found.items():
        assert interval.low - 1e-9 <= values[each] <= interval.high + 1e-9 and interval.resamples >= 30, each
