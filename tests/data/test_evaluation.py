import dataclasses

import numpy as np
import pytest
import seqio

from paligax.data import records, shards, text
from paligax.data.runtime import tf
from paligax.metrics import vqa_accuracy
from tests.data.toy import add_task, jpeg, record, steps


@pytest.fixture
def held_out(data):
    return dataclasses.replace(data, split="validation", batch_size=4)


def test_every_entry_once_in_order_with_its_host_side_fields(held_out):
    batches = list(held_out.evaluation("toy_question"))
    examples = [example for batch in batches for example in batch.examples]
    assert [batch.batch.size for batch in batches] == [4, 4]
    assert examples[-1] is None and not batches[-1].batch.weights[-1].any()
    assert [example["id"] for example in examples[:-1]] == ["r100", "r101", "r101", "r103", "r104", "r104", "r106"]
    third = examples[2]
    assert third["task"] == "toy_question" and third["prompt"] == "how many 1?" and third["targets"] == "101"
    assert third["references"] == ["101"] and third["size"] == 2 and third["skip"] == ""
    np.testing.assert_array_equal(third["image"], batches[0].batch.image[2])
    assert held_out.vocabulary.decode(batches[0].batch.targets[2]) == "101"


def test_two_times_and_any_seed_of_order_give_the_same(held_out):
    first, second = (list(held_out.evaluation("toy_caption")) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.batch.inputs, b.batch.inputs)


def test_shards_divide_the_entries_and_have_equally_many_batches(held_out):
    whole = list(held_out.evaluation("toy_question", num_examples=5))
    halves = [list(held_out.evaluation("toy_question", 5, i, 2)) for i in range(2)]
    assert len(whole) == len(halves[0]) == len(halves[1]) == 2
    for step, batch in enumerate(whole):
        both = np.concatenate([half[step].batch.inputs for half in halves])
        np.testing.assert_array_equal(batch.batch.inputs, both)
    assert [e is None for e in halves[1][1].examples] == [True, True]
    with pytest.raises(ValueError, match="Shard 0 of 3"):
        next(held_out.evaluation("toy_question", None, 0, 3))


def test_what_cannot_be_used_keeps_its_place(held_out, tmp_path):
    written = [record(0), {**record(1), "image": jpeg(1)[:200]}, record(2)]
    shards.write_shards(str(tmp_path), "validation", [records.encode(r) for r in written])
    records.write_manifest(str(tmp_path))
    own = dataclasses.replace(held_out, data_dir=str(tmp_path))
    (batch, _) = own.evaluation("toy_caption")
    assert [example["skip"] for example in batch.examples] == ["", "", "broken image", "broken image"]
    assert batch.batch.weights.any(axis=1).tolist() == [True, True, False, False]
    assert batch.examples[2]["id"] == "toy_caption:1:0"


@seqio.map_over_dataset
def asked_once(example):
    example = records.pick_question(example)
    answers = example["qa/answer"]
    drawn = text.random_index(text.fold(example["seed"], "answer"), tf.maximum(tf.size(answers), 1))
    answer = tf.gather(tf.concat([answers, [""]], axis=0), drawn)
    return {**example, "prompt": example["qa/question"], "answer": answer, "eval/references": answers}


def test_ten_answers_are_one_question(held_out, tmp_path):
    """An entry for each answer in the record; one question in evaluation, all ten answers beside it."""
    asked = [("what?", ["a cat"] * 6 + ["cat"] * 3 + ["dog"]), ("which?", ["no"] * 10), ("one?", ["1"])]
    qa = [{"lang": "en", "question": q, "answer": a} for q, answers in asked[:2] for a in answers]
    first = record(0, qa=qa[::-1])  # the questions' answers need not stand together
    second = record(1, qa=[{"lang": lang, "question": "one?", "answer": "1"} for lang in ("en", "de")])
    for split in ("train", "validation"):
        shards.write_shards(str(tmp_path), split, [records.encode(r) for r in (first, second)])
    records.write_manifest(str(tmp_path))
    own = dataclasses.replace(held_out, data_dir=str(tmp_path), mixture_or_task="toy_once")
    add_task(own, "toy_once", "question", steps(asked_once))
    examples = [example for batch in own.evaluation("toy_once") for example in batch.examples if example]
    assert [example["id"] for example in examples] == ["r0", "r0", "r1", "r1"]
    found = {example["prompt"]: example["references"] for example in examples}
    assert sorted(found["what?"]) == sorted(asked[0][1]) and found["which?"] == ["no"] * 10 and found["one?"] == ["1"]
    assert vqa_accuracy([found["what?"]], ["dog"])["vqa_accuracy"] == pytest.approx(0.3)  # one of ten, left out in turn
    (entries, asks) = (shards.read_manifest(str(tmp_path))["train"].entries(kind) for kind in ("qa", "question"))
    assert (len(entries), len(asks)) == (22, 4)
    drawn = {}
    batches = dataclasses.replace(own, split="train", batch_size=4).stream().batches()
    for _ in range(25):  # as many epochs
        batch = next(batches)
        for identity, ids in zip(batch.ids, batch.batch.targets, strict=True):
            drawn.setdefault(identity, []).append(own.vocabulary.decode(ids))
    batches.close()
    assert [len(answers) for answers in drawn.values()] == [25] * 4
    assert {frozenset(answers) for answers in drawn.values()} >= {frozenset({"a cat", "cat", "dog"}), frozenset({"no"})}
