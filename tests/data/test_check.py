import dataclasses

import numpy as np
import pytest
import seqio

from paligax.data import check, records, registry
from paligax.data.example import Refused
from paligax.data.rows import TaskRows
from paligax.data.runtime import tf
from tests.data.toy import LENGTHS, add_task, caption, record, steps


def traced(data, *own):
    registry.register(data)
    return check.trace(add_task(data, "checked", "alt_text", steps(caption, *own)), data.feature_lengths)


def mapped(name, function):
    preprocessor = seqio.map_over_dataset(function)
    preprocessor.__name__ = name
    return preprocessor


def with_noise(example, noise):
    return {**example, "answer": tf.strings.join([example["answer"], tf.strings.as_string(noise)])}


RANDOM = {
    "unseeded": lambda e: with_noise(e, tf.random.uniform(())),
    "seeded_but_stateful": lambda e: with_noise(e, tf.random.normal((), seed=3)),
    "generator": lambda e: with_noise(e, GENERATOR.uniform(())),
    "shuffled": lambda e: with_noise(e, tf.random.shuffle(tf.range(3))[0]),
    "in_a_branch": lambda e: with_noise(e, tf.cond(e["item"] > 0, lambda: tf.random.uniform(()), lambda: 0.0)),
    "in_a_loop": lambda e: with_noise(e, tf.map_fn(lambda i: tf.random.uniform(()), tf.zeros(3))[0]),
    "in_a_function": lambda e: with_noise(e, tf.function(lambda: tf.random.uniform(()))()),
    "image_op": lambda e: {**e, "image": tf.image.random_flip_left_right(e["image"])},
    "python": lambda e: with_noise(e, tf.numpy_function(lambda: 1.0, [], tf.double)),
    "time": lambda e: with_noise(e, tf.timestamp()),
}
GENERATOR = tf.random.Generator.from_seed(0)


@pytest.mark.parametrize("name", RANDOM)
def test_unrepeatable_operations_are_refused_by_name(data, name):
    with pytest.raises(Refused, match=f"Task 'checked': preprocessor '{name}' (draws|reads|runs).*operation is"):
        traced(data, mapped(name, RANDOM[name]))


def test_stateless_operations_pass(data):
    seeded = mapped("seeded", lambda e: with_noise(e, tf.random.stateless_uniform((), e["seed"])))
    pure = mapped("pure", lambda e: with_noise(e, tf.numpy_function(lambda: 1.0, [], tf.double, stateful=False)))
    assert callable(traced(data, seeded, pure))


@seqio.map_over_dataset(num_seeds=2)
def draws_by_position(example, seeds):
    return with_noise(example, tf.random.stateless_uniform((), seeds[0]))


def drops(dataset):
    return dataset.filter(lambda e: e["answer"] != "")


@pytest.mark.parametrize("preprocessor", [draws_by_position, drops])
def test_a_run_is_refused_before_training(data, preprocessor, monkeypatch):
    def register(data):
        add_task(data, "toy_caption", "alt_text", steps(caption, preprocessor))

    monkeypatch.setattr("toy_tasks.register", register)
    with pytest.raises(Refused, match=f"'toy_caption': preprocessor '{preprocessor.__name__}'"):
        dataclasses.replace(data, mixture_or_task="toy_caption").stream()


def test_wrong_shapes_are_told(data):
    cropped = mapped("cropped", lambda e: {**e, "image": e["image"][:8, :8]})
    told = r"'checked': feature 'image' comes out in shape \(8, 8, 3\), expected \(16, 16"
    with pytest.raises(ValueError, match=told):
        traced(data, cropped)


def stream_of(data, monkeypatch, *preprocessors):
    """The stream of one task that ends with these preprocessors, asked for as a run asks."""

    def register(data):
        add_task(data, "toy_caption", "alt_text", [*steps(caption), *preprocessors])

    monkeypatch.setattr("toy_tasks.register", register)
    return dataclasses.replace(data, mixture_or_task="toy_caption").stream()


def named(name, function):
    function.__name__ = name
    return function


WRONG = {
    # one example in, one example out
    "drops": (lambda ds: ds.filter(lambda e: tf.size(e["targets"]) > 3), "filters"),
    "drops_the_rest": (lambda ds: ds.take(5), "calls Dataset.take"),
    "drops_the_first": (lambda ds: ds.skip(5), "calls Dataset.skip"),
    "multiplies": (lambda ds: ds.repeat(2), "repeats"),
    "multiplies_by_parts": (lambda ds: ds.flat_map(tf.data.Dataset.from_tensors), "several examples of one"),
    "multiplies_by_rows": (lambda ds: ds.unbatch(), "several examples of one"),
    "multiplies_by_files": (lambda ds: ds.interleave(tf.data.Dataset.from_tensors), "several examples of one"),
    "adds": (lambda ds: ds.concatenate(ds), "calls Dataset.concatenate"),
    "joins": (lambda ds: ds.batch(2), "joins examples into one"),
    "pads": (lambda ds: ds.padded_batch(2), "calls Dataset.padded_batch"),
    "shuffles": (lambda ds: ds.shuffle(100, seed=1), "shuffles"),
    "numbers": (lambda ds: ds.enumerate(), "numbers the examples"),
    "remembers": (lambda ds: ds.cache(), "caches"),
    "counts": (lambda ds: ds.scan(0, lambda s, e: (s + 1, e)), "carries a state"),
    "replaces": (lambda ds: tf.data.Dataset.range(3).map(lambda i: {"inputs": [i]}), "of its own"),
    # features
    "floats": (lambda ds: ds.map(lambda e: {**e, "inputs": tf.cast(e["inputs"], tf.float32)}), "float32 .*rank 1"),
    "wide": (lambda ds: ds.map(lambda e: {**e, "inputs": tf.cast(e["inputs"], tf.int64)}), "int64 .*expected int32"),
    "flat": (lambda ds: ds.map(lambda e: {**e, "targets": e["targets"][0]}), r"shape \(\), expected int32 of rank 1"),
    "deep": (lambda ds: ds.map(lambda e: {**e, "targets": e["targets"][None]}), "expected int32 of rank 1"),
    "grey": (lambda ds: ds.map(lambda e: {**e, "image": e["image"][:, :, 0]}), "expected uint8 of rank 3"),
    "forgets": (
        lambda ds: ds.map(lambda e: {k: v for k, v in e.items() if k != "targets"}),
        "no feature 'targets'.*drops",
    ),
    "large": (lambda ds: ds.map(lambda e: {**e, "image": tf.tile(e["image"], [2, 2, 1])}), r"shape \(32, 32, 3\)"),
    "long": (lambda ds: ds.map(lambda e: {**e, "targets": tf.tile(e["targets"], [9])}), "'targets' longer than"),
    "fails": (
        lambda ds: ds.map(lambda e: {**e, "inputs": e["no_such_field"]}),
        "(?s)failed: KeyError.*given the fields",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_every_wrong_task_is_told_before_training(data, name, monkeypatch):
    """By the names of task and preprocessor."""
    preprocessor, why = WRONG[name]
    with pytest.raises(ValueError, match=why) as caught:
        stream_of(data, monkeypatch, named(name, preprocessor))
    assert "Task 'toy_caption'" in str(caught.value) and f"preprocessor {name!r}" in str(caught.value)


def test_features_are_told_by_who_wrote_them_not_by_who_came_last(data, monkeypatch):
    floats = named("floats", WRONG["floats"][0])
    other = named("other", lambda ds: ds.map(lambda e: {**e, "targets": e["targets"] + 0}))
    with pytest.raises(ValueError, match="It is from preprocessor 'floats'"):
        stream_of(data, monkeypatch, floats, other)


def test_a_feature_that_nobody_makes_is_told(data):
    registry.register(data)
    task = add_task(data, "checked", "alt_text", steps(caption)[:2])
    with pytest.raises(ValueError, match="'checked'.*no feature 'inputs'.*None of them makes it"):
        check.trace(task, data.feature_lengths)


def test_stock_tasks_that_cut_behind_eos_are_told(data, monkeypatch):
    """seqio's append_eos leaves room for nothing: what is over is trimmed, EOS first."""

    def register(data):
        add_task(data, "toy_caption", "alt_text", [*steps(caption)[:-1], seqio.preprocessors.append_eos])

    monkeypatch.setattr("toy_tasks.register", register)
    short = dataclasses.replace(data, mixture_or_task="toy_caption", feature_lengths={**LENGTHS, "targets": 8})
    with pytest.raises(ValueError, match="'append_eos' leaves feature 'targets' longer than.*append_eos_after_trim"):
        short.stream()
    dataclasses.replace(short, feature_lengths=LENGTHS).stream()


def test_a_long_record_met_later_is_skipped_and_counted(data):
    """Those tried before training were short enough: then it costs its row."""
    registry.register(data)
    # "eine Katze 1" becomes too long, "a cat number 1" doesn't
    long = mapped(
        "long", lambda e: {**e, "targets": tf.tile(e["targets"], [tf.where(tf.size(e["targets"]) < 14, 9, 1)])}
    )
    task = add_task(data, "checked", "alt_text", [*steps(caption), long])
    rows = TaskRows(task, data)
    serialized = records.encode(record(1))
    assert [rows.run(serialized, item, np.zeros(2, np.int32))[1] for item in (0, 1)] == [
        "",
        "targets too long from long",
    ]


def test_rows_are_what_the_batch_needs(data, toy_module):
    registry.register(data)
    task = seqio.TaskRegistry.get("toy_question")
    names = {"image", "image_mask", "inputs", "targets", "weights", "skip"}
    assert set(check.trace(task, LENGTHS).structured_outputs) == names
    more = {"id", "eval/references", "eval/size", "inputs_pretokenized", "targets_pretokenized"}
    assert set(check.trace(task, LENGTHS, for_evaluation=True).structured_outputs) == names | more


def test_a_task_without_any_usable_record_is_told():
    task = seqio.Task("hopeless", source=None, output_features={})
    with pytest.raises(ValueError, match="'hopeless': none of 2 records tried.*broken image; empty text"):
        check.require_usable(task, ["broken image", "empty text"])
    check.require_usable(task, ["broken image", ""])
