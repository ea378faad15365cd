import dataclasses
import functools

import numpy as np
import pytest
import seqio

from paligax.data import records, registry, shards
from paligax.data.rows import TaskRows, neutral, unusable
from tests.data.toy import LENGTHS, add_task, caption, jpeg, record, steps

SEED = np.array([1, 2], np.int32)


@pytest.fixture
def rows(data):
    return TaskRows(registry.task(data, "toy_caption"), data)


def test_one_record_alone(rows):
    row, reason = rows.run(records.encode(record(3)), 1, SEED)
    assert reason == "" and row["image"].shape == (16, 16, 3) and row["image"].any() and row["weights"].sum() == 13


@pytest.mark.parametrize(
    ("change", "item", "reason"),
    [
        ({"image": jpeg(0)[:300]}, 0, "broken image"),
        ({"image": b"GIF89a"}, 0, "not a JPEG or PNG"),
        ({"image": b"", "text": "words"}, 0, "error in the task: InvalidArgumentError"),
        ({"image": b""}, 0, "empty record"),
        ({"alt_text": [{"lang": "en", "text": ""}]}, 0, "empty text"),
        ({"alt_text": [{"lang": "en", "text": " "}]}, 0, "empty targets"),
        ({}, 7, "no alt_text"),
        ({"qa": {"lang": ["en"], "question": [], "answer": []}}, 0, "uneven groups"),
    ],
)
def test_what_cannot_be_used_is_told_behind_rekey_too(rows, change, item, reason):
    assert rows.run(records.encode({**record(3), **change}), item, SEED)[1] == reason


def test_bytes_that_are_no_record(rows):
    assert rows.run(b"\xff\xff nothing", 0, SEED)[1] == "broken record"


def test_unusable_reasons():
    skip = np.array([b"", b"broken", b""], object)
    targets = np.array([[5, 1, 0], [5, 1, 0], [1, 0, 0]])
    assert unusable(skip, targets) == ["", "broken", "empty targets"]
    assert unusable(skip, None) == ["", "broken", ""]


def test_neutral_rows_weigh_nothing_but_can_be_attended_to():
    values = neutral(LENGTHS, 2)
    assert values["weights"].sum() == 0 and (values["inputs"][:, 0] == 1).all() and not values["image_mask"].any()
    assert set(neutral({"image": 4, "labels": 3}, 2)) == {"image", "labels", "weights"}


def test_sources_without_random_access_and_empty_indices_are_told(data):
    source = seqio.FunctionDataSource(lambda split, shuffle_files: None, splits=["train"])
    task = seqio.Task("t", source=source, output_features={})
    with pytest.raises(ValueError, match="'t' reads from FunctionDataSource.*RecordSource"):
        TaskRows(task, data)
    with pytest.raises(ValueError, match="'toy_text': split 'validation'.*no entries 'text'"):
        TaskRows(registry.task(data, "toy_text"), dataclasses.replace(data, split="validation"))
    with pytest.raises(ValueError, match="no split 'test'; it has"):
        TaskRows(registry.task(data, "toy_text"), dataclasses.replace(data, split="test"))


@seqio.map_over_dataset
def hopeless(example):
    return records.skip_if(example, example["item"] >= 0, "never good")


def test_a_task_of_which_no_record_can_be_used_is_told(data):
    add = functools.partial(add_task, data, "hopeless", "alt_text")
    rows = TaskRows(add(steps(caption, hopeless)), data)
    with pytest.raises(ValueError, match="'hopeless': none of 7 records tried could be used .never good"):
        rows.try_some(shards.Readers())
