import dataclasses

import pytest
import seqio

from paligax.data import check, registry
from paligax.data.example import Refused
from paligax.data.runtime import tf
from tests.data.toy import LENGTHS, add_task, caption, steps


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
