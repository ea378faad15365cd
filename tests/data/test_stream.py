import dataclasses
import os

import numpy as np
import pytest

from paligax.batch import LabelBatch
from paligax.data import Data, features, images, records, shards
from paligax.data.runtime import tf
from paligax.data.stream import StreamBatch
from paligax.vocabulary import ByteVocabulary
from tests.data.toy import LENGTHS, add_task, record


@pytest.fixture(scope="module")
def stream(data_dir, toy_module):
    return Data("toy", LENGTHS, 12, ByteVocabulary(), data_dir=data_dir, task_modules=("toy_tasks",)).stream()


def take(stream, steps, start=0) -> list[StreamBatch]:
    batches = stream.batches(start)
    return [next(batches) for _ in range(steps)]


def test_batches_have_the_promised_shapes(stream):
    (first,) = take(stream, 1)
    abstract = stream.abstract_batch()
    for field in dataclasses.fields(abstract):
        leaf, promised = getattr(first.batch, field.name), getattr(abstract, field.name)
        assert leaf.shape == promised.shape and leaf.dtype == promised.dtype, field.name
    assert first.step == 0 and first.skipped == {} and len(first.ids) == 12
    assert stream.task_names == ("toy_caption", "toy_question", "toy_text")


def test_rows_belong_to_their_ids(stream):
    for batch in take(stream, 3):
        for row, identity in enumerate(batch.ids):
            task, number, _ = identity.split(":")
            assert task == stream.task_names[batch.batch.task[row]]
            assert batch.batch.image_mask[row] == (task != "toy_text") == batch.batch.image[row].any()
            assert (batch.batch.weights[row] == (batch.batch.targets[row] > 0)).all() and batch.batch.weights[row].sum()


def test_an_epoch_of_a_task_has_every_entry_once(stream):
    ids = [identity for batch in take(stream, 40) for identity in batch.ids if identity.startswith("toy_text")]
    assert len(set(ids[:10])) == len(set(ids[10:20])) == 10 and ids[:10] != ids[10:20]


def test_steps_continue_across_plans(stream):
    numbers = [batch.step for batch in take(stream, 45, start=19)]
    assert numbers == list(range(19, 64))


def test_the_fingerprint_names_what_decides_the_batches(data):
    from paligax.data.stream import fingerprint

    own = dataclasses.replace(data, mixture_or_task="toy_text")
    stream = own.stream()
    first = stream.fingerprint()
    assert first == own.stream(1, 2).fingerprint() and len(first) == 16
    for change in (
        {"seed": 1},
        {"batch_size": 24},
        {"feature_lengths": {**LENGTHS, "targets": 16}},
        {"options": {"x": 1}},
        {"shuffle": False},
        {"vocabulary": ByteVocabulary(10)},
    ):
        assert fingerprint(dataclasses.replace(own, **change), stream.tasks, {"toy_text": 1}) != first, change
    assert fingerprint(own, stream.tasks, {"toy_text": 1}) == first != fingerprint(own, stream.tasks, {"toy_text": 2})


def test_impossible_shards_are_told(data):
    with pytest.raises(ValueError, match="divisible"):
        data.stream(0, 5)
    with pytest.raises(ValueError, match="Shard 2 of 2"):
        data.stream(2, 2)


def test_a_missing_shard_stops_with_its_name(data, tmp_path):
    path = str(tmp_path)
    shards.write_shards(path, "train", [records.encode(record(i)) for i in range(40)], num_shards=4)
    records.write_manifest(path)
    own = dataclasses.replace(data, mixture_or_task="toy_caption", data_dir=path)
    stream = own.stream()
    missing = shards.read_manifest(path)["train"].paths[2]
    os.remove(missing)
    with pytest.raises(FileNotFoundError, match="train.array_record-00002-of-00004"):
        own.stream()
    stream.readers.close()  # as if it had not been opened yet
    with pytest.raises(FileNotFoundError, match="train.array_record-00002-of-00004"):
        take(stream, 30)


def test_labels_make_label_batches(data, monkeypatch):
    def register(data):
        def labels(dataset):
            return dataset.map(lambda e: {**e, "labels": tf.one_hot(tf.cast(e["item"], tf.int32), 5)})

        add_task(data, "toy_labels", "image", [records.unpack, images.feed, labels], image=True)

    monkeypatch.setattr("toy_tasks.register", register)
    lengths = {"image": 16, "labels": 5}
    own = dataclasses.replace(data, mixture_or_task="toy_labels", feature_lengths=lengths, vocabulary=None)
    (batch,) = take(own.stream(), 1)
    assert isinstance(batch.batch, LabelBatch) and batch.batch.labels[:, 0].all() and batch.batch.weights.all()
    assert batch.batch.labels.shape == features.abstract_batch(lengths, 12).labels.shape
    (evaluated,) = dataclasses.replace(own, batch_size=64).evaluation("toy_labels")
    assert evaluated.batch.weights.sum() == 40 and evaluated.examples[39]["id"]


def test_order_without_shuffling(data):
    own = dataclasses.replace(data, mixture_or_task="toy_text", shuffle=False)
    numbers = [int(identity.split(":")[1]) for identity in take(own.stream(), 1)[0].ids]
    assert numbers[:10] == sorted(numbers[:10]) and numbers[10:] == numbers[:2]


def test_closing_stops_the_pipelines(stream):
    from paligax.data import stream as module

    batches = stream.batches()
    next(batches)
    assert any(feed._chunks is not None for feed in module._open_feeds)
    batches.close()
    assert all(feed._chunks is None for feed in module._open_feeds if feed._stream is stream)
    assert np.array_equal(next(stream.batches()).batch.inputs, next(stream.batches()).batch.inputs)
