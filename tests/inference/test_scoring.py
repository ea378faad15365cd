import dataclasses

import numpy as np
import pytest

from paligax import metrics
from paligax.inference import scoring
from paligax.inference.shown import Shown


def shown(score, **other):
    return Shown("x", "", "", "", score=score, **other)


def test_the_headline_comes_first_and_seqio_scalars_are_numbers():
    class Scalar:
        value = 0.25

    fns = [lambda targets, predictions: {"b": Scalar()}, lambda targets, predictions: {"a": len(targets)}]
    assert scoring.measure(fns, [1, 2], [1, 2]) == {"b": 0.25, "a": 2.0}
    assert scoring.score_alone(fns, 1, 2) == ("b", 0.25)


def test_a_metric_without_a_value_on_a_single_example():
    def fails(targets, predictions):
        raise ValueError("needs two")

    assert scoring.score_alone([fails], 1, 2) == ("", None)
    nothing = metrics.Boxes(np.zeros((0, 4)), ())
    assert scoring.score_alone([metrics.METRIC_FNS["detection"]], nothing, nothing) == ("ap50", None)


def test_each_caption_has_its_own_cider_among_the_others():
    targets = [["two dogs run on the grass"], ["a red house"], ["the cat sleeps, it seems, on a mat"]]
    predictions = ["two dogs run", "a red house", "a cat"]
    for name in ("cider", "coco_captions"):
        fn = metrics.METRIC_FNS[name]
        alone = [scoring.score_alone([fn], t, p) for t, p in zip(targets, predictions, strict=True)]
        assert {n for n, _ in alone} == {"cider"} and alone[1][1] > alone[0][1] > alone[2][1] > 0
        value = fn(targets, predictions)["cider"]
        answers = [
            scoring.Answer(i, shown(s), t, p, None)
            for i, ((_, s), t, p) in enumerate(zip(alone, targets, predictions, strict=True))
        ]
        found = [answer.shown.score for answer in scoring.rescored(answers, "cider", value)]
        assert np.mean(found) == pytest.approx(value) and found[1] == max(found)
        assert scoring.rescored(answers, "token_f1", 0.5) == answers
    assert scoring.cider_scores(3.0, targets, predictions) is None  # somebody's own metric of that name


def test_those_by_chance_and_the_lowest_are_the_same_on_any_number_of_processes():
    rng = np.random.default_rng(0)
    examples = {i: shown(float(rng.integers(0, 5)) / 4) for i in range(64)}
    with_images = {i: dataclasses.replace(e, image=np.full((1, 1, 3), i, np.uint8)) for i, e in examples.items()}

    def chosen(processes):
        galleries = [scoring.Gallery(5, "seed") for _ in range(processes)]
        for start in range(0, 64, 16):  # batches, of which each process reads its part
            for p, gallery in enumerate(galleries):
                width = 16 // processes
                rows = range(start + p * width, start + (p + 1) * width)
                gallery.offer((i, with_images[i]) for i in rows)
        held = {i: image for gallery in galleries for i, image in gallery.images().items()}
        assert len(held) <= processes * 15
        found = galleries[0].choose(examples, held)
        assert all(held[i][0, 0, 0] == i for i in found)
        return found

    alone = chosen(1)
    assert list(alone.values()) == [False] * 5 + [True] * 5
    assert list(alone.items()) == list(chosen(2).items()) == list(chosen(4).items())
    lowest = [examples[i].score for i, worst in alone.items() if worst]
    assert lowest == sorted(lowest) and max(lowest) <= 0.25


def test_perfect_and_unscored_examples_are_not_among_the_lowest():
    gallery = scoring.Gallery(2, "")
    examples = {0: shown(1.0), 1: shown(None), 2: shown(10.0, best=10.0), 3: shown(0.0, lower_is_better=True)}
    gallery.offer(examples.items())
    assert not any(gallery.choose(examples, set(examples)).values())
