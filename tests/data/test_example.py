import functools

import numpy as np
import pytest
import seqio

from paligax.data.example import OneExample, Refused, preprocess
from paligax.data.runtime import tf


def element(**fields):
    return {"skip": tf.constant(""), "id": tf.constant("x"), **{k: tf.constant(v) for k, v in fields.items()}}


def one(**fields):
    return OneExample(element(**fields), {}, tf.__internal__.autograph.control_status_ctx())


def task(*preprocessors, outputs=None):
    return seqio.Task("a_task", source=None, preprocessors=preprocessors, output_features=outputs or {})


def run(*preprocessors, outputs=None, **fields):
    steps = []
    done = preprocess(task(*preprocessors, outputs=outputs), one(**fields), {"x": 3}, lambda *step: steps.append(step))
    return done, steps


def test_map_is_applied_at_once():
    assert one(a=2).map(lambda e: {"a": e["a"] + 1}, num_parallel_calls=8).element["a"] == 3
    assert one(a=2).map(lambda e: {"a": [1, 2], "b": ""}).element["a"].shape == (2,)
    assert one(a=[1, 2]).element_spec["a"] == tf.TensorSpec((2,), tf.int32)
    assert one(a=1).prefetch(3).apply(lambda d: d).element["a"] == 1


def test_the_given_example_is_not_changed():
    first = one(a=1)
    first.map(lambda e: e | {"b": e.pop("a")})
    assert "a" in first.element


def test_reason_id_and_evaluation_fields_survive_rekey():
    rekeyed, _ = run(
        lambda ds: ds.map(lambda e: {**e, "skip": tf.constant("broken"), "eval/boxes": tf.constant([1.0])}),
        functools.partial(seqio.preprocessors.rekey, key_map={"y": "a"}),
        lambda ds: ds.map(lambda e: {"z": e["y"]}),
        a=1,
    )
    assert set(rekeyed.element) == {"z"}
    assert rekeyed.carried["skip"] == b"broken" and rekeyed.carried["id"] == b"x" and "eval/boxes" in rekeyed.carried


def test_python_conditions_on_tensors_work_as_in_tf_data():
    @seqio.map_over_dataset
    def clip(example):
        if example["a"] > 2:
            result = tf.constant(2)
        else:
            result = example["a"]
        return {"a": result}

    context = tf.__internal__.autograph.control_status_ctx()
    function = tf.function(lambda a: OneExample({"a": a}, {}, context).apply(clip).element["a"], autograph=False)
    assert [int(function(tf.constant(i))) for i in (1, 5)] == [1, 2]


def test_preprocessors_get_what_seqio_gives_them_and_outputs_are_trimmed():
    @seqio.map_over_dataset
    def wants(example, sequence_length, output_features):
        assert sequence_length == {"x": 3} and set(output_features) == {"x"}
        return example

    outputs = {"x": seqio.Feature(seqio.PassThroughVocabulary(10), dtype=tf.int32)}
    done, steps = run(wants, outputs=outputs, x=[1, 2, 3, 4])
    assert done.element["x"].numpy().tolist() == [1, 2, 3]
    assert steps == [("wants", False)]


def bad_filter(ds):
    return ds.filter(lambda e: e["a"] > 0)


def bad_shuffle(ds):
    return ds.shuffle(10)


def bad_repeat(ds):
    return ds.repeat(2)


def bad_take(ds):
    return ds.take(1)


def bad_zip(ds):
    return tf.data.Dataset.zip((ds, tf.data.Dataset.range(3)))


def bad_own(ds):
    return tf.data.Dataset.range(3)


def bad_tuple(ds):
    return ds.map(lambda e: (e["a"], e["a"]))


@seqio.map_over_dataset(num_seeds=1)
def bad_seeds(example, seed):
    return example


@pytest.mark.parametrize(
    ("preprocessor", "why"),
    [
        (bad_filter, "filters. Mark the example"),
        (bad_shuffle, "shuffles"),
        (bad_repeat, "repeats"),
        (bad_take, "calls Dataset.take"),
        (bad_zip, "num_seeds"),
        (bad_seeds, "num_seeds"),
        (bad_own, "of its own"),
        (bad_tuple, "returns tuple"),
    ],
)
def test_what_is_not_one_in_one_out_is_refused_by_name(preprocessor, why):
    with pytest.raises(Refused, match=f"(?s)'a_task': preprocessor '{preprocessor.__name__}'.*{why}"):
        run(preprocessor, a=1)


def test_failures_and_wrong_features_are_told_by_name():
    told = "(?s)'a_task': preprocessor 'rekey' failed: KeyError.*'b'.*given the fields a, id, skip"
    with pytest.raises(ValueError, match=told):
        run(functools.partial(seqio.preprocessors.rekey, key_map={"y": "b"}), a=1)
    outputs = {"x": seqio.Feature(seqio.PassThroughVocabulary(10), dtype=tf.int32)}
    with pytest.raises(ValueError, match="'a_task'.*leave no feature 'x'; they leave a, id, skip"):
        run(outputs=outputs, a=1)
    with pytest.raises(ValueError, match="feature 'x' comes out as float32 .*expected int32 of rank 1"):
        run(outputs=outputs, x=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="feature 'x' comes out as int32 of shape .2, 2.*rank 1"):
        run(outputs=outputs, x=[[1, 2], [3, 4]])
