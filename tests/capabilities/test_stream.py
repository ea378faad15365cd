"""The stream's promises: a batch is a function of mixture, seed and step alone, and an error costs one row."""

import dataclasses
import functools

import numpy as np
import pytest
import seqio

from paligax.data import Data, records, shards
from paligax.data.rows import TaskRows
from paligax.vocabulary import ByteVocabulary
from tests.data.toy import LENGTHS, add_task, caption, data_dir, jpeg, record, register, steps, toy_module  # noqa: F401

STEPS = 7
BROKEN, CUT, EMPTY, MISSING = 3, 8, 13, 18  # records of the damaged data set


@pytest.fixture(scope="module")
def own(data_dir, toy_module):  # noqa: F811
    return Data("toy", LENGTHS, 12, ByteVocabulary(), data_dir=data_dir, task_modules=("toy_tasks",))


@pytest.fixture(scope="module")
def whole(own):
    """Batches 0 … STEPS - 1 of the one-shard stream."""
    batches = own.stream().batches()
    return [next(batches) for _ in range(STEPS)]


def same(one, other):
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))


def test_batches_are_identical_from_any_start_step(own, whole):
    stream = own.stream()
    for start in (5, 1, 6):
        batches = stream.batches(start)
        for expected in whole[start:]:
            batch = next(batches)
            assert batch.step == expected.step and batch.ids == expected.ids
            assert same(batch.batch, expected.batch)


@pytest.mark.parametrize("num_shards", [2, 4])
def test_shards_see_the_same_global_batches(own, whole, num_shards):
    parts = [own.stream(index, num_shards).batches() for index in range(num_shards)]
    for expected in whole:
        batches = [next(part) for part in parts]
        assert [identity for batch in batches for identity in batch.ids] == expected.ids
        for field in dataclasses.fields(expected.batch):
            joined = np.concatenate([getattr(batch.batch, field.name) for batch in batches])
            np.testing.assert_array_equal(joined, getattr(expected.batch, field.name), err_msg=field.name)


def test_two_seeds_differ(own, whole):
    first = next(dataclasses.replace(own, seed=1).stream().batches())
    assert first.ids != whole[0].ids
    assert not np.array_equal(first.batch.task, whole[0].batch.task)
    assert not np.array_equal(first.batch.inputs, whole[0].batch.inputs)


def test_an_example_draws_anew_in_each_epoch(own):
    """The prompt's number is random: the same entry gets another one when it comes again."""
    stream = dataclasses.replace(own, mixture_or_task="toy_caption", batch_size=40).stream()
    batches = stream.batches()
    prompts: dict[str, set[str]] = {}
    for _ in range(6):  # three epochs of 80 entries
        batch = next(batches)
        for identity, ids in zip(batch.ids, batch.batch.inputs, strict=True):
            prompts.setdefault(identity, set()).add(own.vocabulary.decode(ids))
    assert len(prompts) == 80 and np.mean([len(p) for p in prompts.values()]) > 2.8


def test_mixture_proportions_are_exact_at_every_blocks_end(own):
    stream = own.stream()
    assert stream.block_size == 18  # 10 + 5 + 3, which no batch of 12 divides
    batches = stream.batches()
    tasks = np.concatenate([next(batches).batch.task for _ in range(9)])
    for block in range(1, 7):
        assert np.bincount(tasks[: 18 * block]).tolist() == [10 * block, 5 * block, 3 * block]


# ------------------------------------------------------------------------------------------------ damaged records


@seqio.map_over_dataset
def with_references(example):
    return {**example, "eval/references": example["alt_text/text"][None]}


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, toy_module):  # noqa: F811
    """40 records, four of which cannot be used, each for another reason; no field survives the task's rekey."""
    path = str(tmp_path_factory.mktemp("damaged"))
    written = [record(i, alt_text=[{"lang": "en", "text": f"number {i}"}]) for i in range(40)]
    written[BROKEN]["image"] = b"GIF89a, not what it should be"
    written[CUT]["image"] = jpeg(CUT)[:400]
    written[EMPTY]["alt_text"] = [{"lang": "en", "text": ""}]
    del written[MISSING]["alt_text"]
    shards.write_shards(path, "train", [records.encode(r) for r in written], num_shards=2)
    records.write_manifest(path)

    def register_damaged(data):
        register(data)
        add_task(data, "damaged", "record", steps(caption, with_references))

    patch = pytest.MonkeyPatch()
    patch.setattr(toy_module, "register", register_damaged)
    yield Data("damaged", LENGTHS, 8, ByteVocabulary(), data_dir=path, task_modules=("toy_tasks",), shuffle=False)
    patch.undo()


def number_of(record_number):
    """Position in the split of the n-th record written (round-robin into two shards)."""
    return record_number // 2 + 20 * (record_number % 2)


def test_unusable_records_keep_their_place_and_are_counted_by_reason(damaged):
    batches = damaged.stream().batches()
    rows, skipped = [], {}
    for _ in range(5):
        batch = next(batches)
        rows += [(weights.sum(), image.any(), inputs[0]) for weights, image, inputs in
                 zip(batch.batch.weights, batch.batch.image, batch.batch.inputs, strict=True)]  # fmt: skip
        for reason, count in batch.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
        assert batch.ids == [f"damaged:{8 * batch.step + i}:0" for i in range(8)]
    unusable = [i for i, (weight, _, _) in enumerate(rows) if weight == 0]
    assert unusable == sorted(number_of(i) for i in (BROKEN, CUT, EMPTY, MISSING))
    assert skipped == {
        "damaged/not a JPEG or PNG": 1,
        "damaged/broken image": 1,
        "damaged/empty text": 1,
        "damaged/no alt_text": 1,
    }
    assert all(not image and first == 1 for weight, image, first in rows if weight == 0)


def test_evaluation_counts_them_too(damaged):
    batches = dataclasses.replace(damaged, batch_size=16).evaluation("damaged")
    examples = [example for batch in batches for example in batch.examples]
    assert [e is None for e in examples] == [False] * 40 + [True] * 8
    assert {number_of(BROKEN), number_of(CUT), number_of(EMPTY), number_of(MISSING)} == {
        i for i, e in enumerate(examples[:40]) if e["skip"]
    }


# ------------------------------------------------------------------------------------------------ ordinary tasks


def test_stock_preprocessors_give_the_ids_of_seqios_own_pipeline(own):
    add_task(own, "plain", "qa", [
        records.unpack,
        lambda ds: ds.map(lambda e: records.pick(e, "qa")),
        functools.partial(seqio.preprocessors.rekey, key_map={"inputs": "qa/question", "targets": "qa/answer"}),
        seqio.preprocessors.tokenize,
        seqio.preprocessors.append_eos_after_trim,
    ], image=False)  # fmt: skip
    task = seqio.TaskRegistry.get("plain")
    theirs = task.get_dataset({"inputs": 64, "targets": 24}, "train", shuffle=False)
    theirs = [(e["inputs"].tolist(), e["targets"].tolist()) for e in theirs.as_numpy_iterator()]
    rows = TaskRows(task, own)
    record_number, item = rows.entries.locate(np.arange(len(rows.entries)))
    serialized = shards.Readers().read(rows.split, record_number)
    for k, (inputs, targets) in enumerate(theirs):
        row, reason = rows.run(serialized[k], item[k], np.zeros(2, np.int32))
        assert reason == "" and not row["image_mask"]
        assert row["inputs"][: len(inputs)].tolist() == inputs and not row["inputs"][len(inputs) :].any()
        assert row["targets"][: len(targets)].tolist() == targets
    assert len(theirs) == len(rows.entries) == 39
