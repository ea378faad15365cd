import numpy as np
import pytest

from paligax.batch import LabelBatch, TextBatch
from paligax.data import features
from paligax.data.runtime import tf
from paligax.vocabulary import ByteVocabulary

LENGTHS = {"image": 8, "inputs": 6, "targets": 4}


def dataset(**example):
    return tf.data.Dataset.from_tensors({key: tf.constant(value) for key, value in example.items()})


def test_text_rows_are_padded_and_weighed():
    given = dataset(image=np.ones((8, 8, 3), np.uint8), inputs=[7, 8, 1], targets=[9, 1], extra=5)
    (row,) = features.converter(LENGTHS)(given, LENGTHS).as_numpy_iterator()
    assert set(row) == {"image", "image_mask", "inputs", "targets", "weights"}
    assert row["inputs"].tolist() == [7, 8, 1, 0, 0, 0] and row["targets"].tolist() == [9, 1, 0, 0]
    assert row["weights"].tolist() == [1, 1, 0, 0] and row["weights"].dtype == np.float32
    assert row["image"].shape == (8, 8, 3) and row["image_mask"]


def test_a_task_may_mask_its_image():
    given = dataset(image=np.zeros((8, 8, 3), np.uint8), image_mask=False, inputs=[1], targets=[1])
    (row,) = features.converter(LENGTHS)(given, LENGTHS).as_numpy_iterator()
    assert not row["image_mask"]


def test_label_rows():
    lengths = {"image": 8, "labels": 3}
    given = dataset(image=np.zeros((8, 8, 3), np.uint8), labels=np.array([0, 1, 1], np.float32))
    (row,) = features.converter(lengths)(given, lengths).as_numpy_iterator()
    assert row["labels"].tolist() == [0, 1, 1] and row["weights"] == 1 and set(row) == {"image", "labels", "weights"}


def test_wrong_dtypes_and_lengths_are_told():
    given = dataset(image=np.zeros((8, 8, 3), np.float32), inputs=[1], targets=[1])
    with pytest.raises(ValueError, match="'image'.*Got float32, expected uint8"):
        features.converter(LENGTHS)(given, LENGTHS)
    with pytest.raises(ValueError, match="expected image, inputs and targets"):
        features.converter({"image": 8, "input": 3, "targets": 4})


def test_output_features_of_a_run():
    outputs = features.output_features(LENGTHS, ByteVocabulary())
    assert outputs["image"].dtype == tf.uint8 and outputs["image"].rank == 3 and outputs["image"].required
    assert outputs["targets"].add_eos and outputs["targets"].vocabulary.vocab_size == ByteVocabulary().size
    assert not features.output_features(LENGTHS, ByteVocabulary(), image=False)["image"].required
    assert set(features.output_features({"image": 8, "labels": 3})) == {"image", "labels"}


def test_abstract_batches_are_the_batches():
    text = features.abstract_batch(LENGTHS, 2)
    assert isinstance(text, TextBatch) and text.image.shape == (2, 8, 8, 3) and text.weights.shape == (2, 4)
    labels = features.abstract_batch({"image": 8, "labels": 3}, 2)
    assert isinstance(labels, LabelBatch) and labels.labels.shape == (2, 3)
