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


def test_training_shows_a_random_part_and_evaluation_the_whole_image(labels, run, make):
    import io

    from PIL import Image

    gradient = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None, None] * 4, (64, 64, 3))
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(gradient)).save(file, "PNG")
    record = RECORD | {"image": file.getvalue()}
    whole = run(make(classification, labels, classes=CLASSES), labels, record).fields[0]["image"]
    task = make(classification, labels, classes=CLASSES, crop="inception")
    part = run(task, labels, record).fields[0]["image"]
    assert part.shape == whole.shape and np.ptp(part.astype(int)) < np.ptp(whole.astype(int))
    np.testing.assert_array_equal(run(task, labels, record).fields[0]["image"], part)
    held_out = dataclasses.replace(labels, split="validation")
    task = make(classification, held_out, classes=CLASSES, crop="inception")
    np.testing.assert_array_equal(run(task, labels, record).fields[0]["image"], whole)
    assert run(make(classification, labels, classes=CLASSES, crop="inception"), labels, {"image": b""}).skips == [
        "no image"
    ]


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
    with pytest.raises(ValueError, match="crop='random' is not known; known: none, inception"):
        make(classification, labels, classes=CLASSES, crop="random")
