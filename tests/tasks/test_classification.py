"""Classification: image → multi-hot labels."""

import dataclasses

import numpy as np
import pytest

from tasks.classification import classification

CLASSES = ("cat", "dog", "hello", "tree")
RECORD = {
    "objects": [{"label": "dog"}, {"label": "tree", "verified_absent": True}, {"label": "dog"}, {"label": "unicorn"}],
    "labels": ["hello", "something else"],
}


@pytest.fixture
def labels(data):
    return dataclasses.replace(data, feature_lengths={"image": 16, "labels": 4}, vocabulary=None)


def test_labels_are_those_of_objects_and_record(labels, run, make):
    task = make(classification, labels, classes=CLASSES)
    (fields,) = run(task, labels, RECORD).fields
    assert fields["labels"].tolist() == [0, 1, 1, 0] and fields["labels"].dtype == np.float32
    assert fields["image"].shape == (16, 16, 3) and fields["image"].dtype == np.uint8
    assert fields["skip"] == b""
    assert run(task, labels, {}).fields[0]["labels"].tolist() == [0, 0, 0, 0]
    assert run(task, labels, RECORD | {"image": b""}).skips == ["no image"]


def test_metrics(labels, make):
    task = make(classification, labels, classes=CLASSES)
    (metric,) = task.metric_fns
    truth = np.eye(4, dtype=np.float32)
    targets = [task.postprocess_fn(None, example={"labels": row}, is_target=True) for row in truth]
    predictions = [task.postprocess_fn(row, example={}, is_target=False) for row in truth]
    assert metric(targets, predictions) == {"mean_average_precision": 1.0, "precision_at_1": 1.0}


def test_mistakes_are_told(labels, make):
    with pytest.raises(ValueError, match=r"3 classes, but TASK_FEATURE_LENGTHS\['labels'\] is 4"):
        make(classification, labels, classes=CLASSES[:3])
