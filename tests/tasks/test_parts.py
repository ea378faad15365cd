"""Sentinels, lengths and random choices that all tasks share."""

import collections
import dataclasses

import numpy as np
import pytest

from paligax.data import text
from paligax.data.runtime import tf
from tasks.captioning import split_cap
from tasks.detection import detection
from tasks.object_aware import object_aware
from tasks.parts import Lengths, between, dice, draw, shuffled
from tasks.vqa import vqa

RECORD = {
    "alt_text": [{"lang": "en", "text": "a red cat sits on a green sofa"}],
    "qa": [{"lang": "en", "question": "what is in the image, how many are there?", "answer": "two dogs"}],
    "objects": [{"label": label, "bbox": [0, 0, 0.5, 0.5]} for label in ("cat", "dog")],
}


def test_prompts_have_the_ids_that_serving_gives_them(data, run, make, vocabulary):
    """What a task feeds is what paligax.load(…).generate feeds for the same prompt, sentinel included."""
    data = dataclasses.replace(data, vocabulary=vocabulary)
    sentinel, eos = vocabulary.sentinel(0), vocabulary.eos_id
    (fields,) = run(make(vqa, data), data, RECORD).fields
    prompt = "Answer in EN: what is in the image, how many are there? <extra_id_0>"
    assert fields["inputs"].tolist() == [*vocabulary.encode(prompt), eos]
    assert fields["inputs"].tolist().count(sentinel) == 1
    words = RECORD["alt_text"][0]["text"].split()
    for fields in run(make(split_cap, data), data, RECORD, seeds=8).fields:
        target = vocabulary.decode(fields["targets"])
        count = len(words) - len(target.split())
        start = " ".join(words[:count])
        prompt = f"Generate the alt_text in en at {count}: {start} <extra_id_0>"
        assert fields["inputs"].tolist() == [*vocabulary.encode(prompt), eos]
        assert fields["targets"].tolist() == [*vocabulary.encode(" ".join(words[count:])), eos]


@pytest.mark.parametrize("vocabulary", ["bytes", "mt5"], indirect=True)
def test_a_long_prompt_keeps_its_sentinel(data, run, make, vocabulary):
    short = dataclasses.replace(data, vocabulary=vocabulary, feature_lengths={"image": 16, "inputs": 10, "targets": 4})
    (fields,) = run(make(vqa, short), short, RECORD).fields
    prompt = vocabulary.encode("Answer in EN: what is in the image, how many are there?")
    assert fields["inputs"].tolist() == [*prompt[:8], vocabulary.sentinel(0), 1]
    assert fields["targets"].tolist() == [*vocabulary.encode("two dogs")[:3], 1]


@pytest.mark.parametrize("vocabulary", ["bytes", "mt5"], indirect=True)
def test_lengths_before_anything_was_left_out(data, run, make, vocabulary):
    """Host-side, for statistics: what a text would take if there were room for it."""

    def told(factory, lengths, **arguments):
        short = dataclasses.replace(data, vocabulary=vocabulary, feature_lengths={"image": 16, **lengths})
        (fields,) = run(make(factory, short, **arguments), short, RECORD).fields
        return int(fields["eval/input_length"]), int(fields["eval/target_length"]), fields

    question, answer = RECORD["qa"][0]["question"], RECORD["qa"][0]["answer"]
    size = {text: len(vocabulary.encode(text)) for text in (f"Answer in EN: {question}", answer)}
    for lengths in ({"inputs": 200, "targets": 200}, {"inputs": 10, "targets": 4}):
        inputs, targets, fields = told(vqa, lengths)
        assert (inputs, targets) == (size[f"Answer in EN: {question}"] + 2, size[answer] + 1)
        assert len(fields["inputs"]) == min(inputs, lengths["inputs"])
    for lengths in ({"inputs": 200, "targets": 200}, {"inputs": 60, "targets": 200}):
        inputs, targets, fields = told(split_cap, lengths)
        assert len(fields["inputs"]) == min(inputs, lengths["inputs"]) and targets == len(fields["targets"])
    boxes = {"classes": ("cat", "dog"), "num_negatives": (0, 0), "box_order": "size"}
    whole = len(vocabulary.encode("0 0 500 500 cat 0 0 500 500 dog")) + 1
    assert told(detection, {"inputs": 200, "targets": whole}, **boxes)[1] == whole
    _, targets, fields = told(detection, {"inputs": 200, "targets": whole - 1}, **boxes)
    assert targets == whole and len(fields["targets"]) < whole - 1


def test_a_question_that_would_ask_something_else_is_skipped(data, run, make):
    short = dataclasses.replace(data, feature_lengths={"image": 16, "inputs": 17, "targets": 200})
    task = make(detection, short, classes=("cat", "dog"), num_negatives=(0, 0))
    assert run(task, short, RECORD).skips == ["prompt too long"]  # "detect cat and dog" and EOS are 19
    fits = dataclasses.replace(data, feature_lengths={"image": 16, "inputs": 19, "targets": 200})
    assert run(make(detection, fits, classes=("cat", "dog"), num_negatives=(0, 0)), fits, RECORD).skips == [""]


def test_images_come_at_the_runs_resolution(data, run, make):
    (fields,) = run(make(vqa, data), data, RECORD).fields
    assert fields["image"].shape == (16, 16, 3) and fields["image"].dtype == np.uint8
    assert (fields["image"] == 128).all()


@pytest.mark.parametrize("factory", [split_cap, object_aware, detection])
def test_choices_depend_on_the_seed_alone(data, run, make, factory):
    task = make(factory, data, **({} if factory is split_cap else {"classes": ("cat", "dog", "bird", "tree", "sofa")}))
    first, again = (run(task, data, RECORD, seeds=20) for _ in range(2))
    assert first.pairs == again.pairs
    assert len(set(first.pairs)) > 4


def test_draws_are_independent_and_even():
    def both(seed):
        example = {"seed": tf.stack([seed, 7])}
        return draw(example, "a", 0, 2), draw(example, "b", 5, 8)

    seeds = tf.data.Dataset.range(600, output_type=tf.int32)
    drawn = collections.Counter((int(a), int(b)) for a, b in seeds.map(both).as_numpy_iterator())
    assert set(drawn) == {(a, b) for a in (0, 1) for b in (5, 6, 7)}
    assert min(drawn.values()) > 65 and max(drawn.values()) < 140  # 100 ± 4 sigma
    assert int(draw({"seed": tf.constant([1, 2])}, "a", 3, 3)) == 3


def test_between_takes_both_ends_and_no_more():
    low, high = tf.constant(0.0), tf.constant(np.nextafter(np.float32(1), np.float32(0)))
    assert [int(between(die, 2, 4)) for die in (low, tf.constant(0.5), high)] == [2, 3, 4]
    for most in (1, 3, 5, 1000, 4097):
        assert int(between(high, 0, most)) == most
    assert int(between(high, 1, 0)) == 1
    assert len(dice({"seed": tf.constant([1, 2])}, "x", 3)) == 3


def test_shuffling_keeps_everything():
    seen = {tuple(shuffled({"seed": tf.constant([s, 0])}, "x", tf.constant([1, 2, 3])).numpy()) for s in range(60)}
    assert len(seen) == 6


def test_lengths(data, vocabulary):
    strings = ["cat", "traffic light", "dog", ""]
    size = len(vocabulary.encode("cat traffic light"))
    for length, count in [(size + 1, 2), (size, 1), (1000, 4)]:
        run = dataclasses.replace(data, vocabulary=vocabulary, feature_lengths={"image": 16, "targets": length})
        sizes = Lengths(run).of(tf.constant(strings))
        assert int(Lengths(run).fitting(sizes)) == count
        kept = Lengths(run).fitting_by(tf.constant([1, 0, 2, 3]), sizes).numpy().tolist()
        assert kept[1] and kept[0] == (count > 1)
        assert int(Lengths(run).whole(sizes[:3])) == len(vocabulary.encode("cat traffic light dog"))
    empty = Lengths(run).of(tf.constant([], tf.string))
    assert int(Lengths(run).fitting(empty)) == int(Lengths(run).whole(empty)) == 0
    assert Lengths(run).fitting_by(tf.constant([], tf.int32), empty).shape == (0,)
    assert text.seqio_vocabulary(vocabulary).vocab_size == vocabulary.size
