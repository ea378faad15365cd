import jax
import numpy as np
import pytest

from paligax.inference import asking, placement
from paligax.inference.asking import neighbours
from paligax.inference.predictors import TextPredictor
from tests.inference import held_out_data

ORACLE = held_out_data.Oracle()


def test_neighbours():
    assert list(neighbours("abc")) == [(None, "a", "b"), ("a", "b", "c"), ("b", "c", None)]
    assert list(neighbours("a")) == [(None, "a", None)] and list(neighbours("")) == []


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("asking"))
    held_out_data.write(path)
    return path


def asked(directory, seed=0, batch_size=8, num_examples=None, drop=0):
    from paligax.data import registry

    data = held_out_data.data(directory, batch_size=batch_size, split="validation")

    class Losing(type(data)):
        def evaluation(self, *args):
            for batch in super().evaluation(*args):
                batch.examples[:drop] = [None] * drop
                yield batch

    data = Losing(**data.__dict__)
    where = placement.place(ORACLE.params, batch_size)
    asker = asking.Asker(where, data, num_examples, True, 1000, seed)
    predictor = TextPredictor(ORACLE, data.vocabulary, data.feature_lengths["targets"])
    return asker.ask(predictor, registry.task(data, "vqa"))


def test_every_row_is_accounted_for(directory):
    found = asked(directory)
    assert [answer.position for answer in found.answers] == list(range(21))  # 11 records of one to three questions
    assert found.problems["skipped"] == {"broken image": 3} and found.values["exact_match"] == 1.0
    assert all(answer.has_image and answer.blind != answer.prediction for answer in found.answers)
    assert found.problems["answers_cut_off"] == found.problems["empty_answers"] == 0


@pytest.mark.parametrize("batch_size, num_examples", [(4, 7), (32, None), (1, 3)])
def test_numbers_that_do_not_divide_the_batch(directory, batch_size, num_examples):
    found = asked(directory, batch_size=batch_size, num_examples=num_examples)
    assert len(found.answers) == (num_examples or 21)
    assert len({answer.position for answer in found.answers}) == len(found.answers)


def test_a_lost_row_is_an_error(directory):
    with pytest.raises(RuntimeError, match="read twice or not at all"):
        asked(directory, drop=1)


def ask(data, num_examples=None):
    from paligax.data import registry

    asker = asking.Asker(placement.place(ORACLE.params, 8), data, num_examples, False, 0, 0)
    predictor = TextPredictor(ORACLE, data.vocabulary, data.feature_lengths["targets"])
    return asker.ask(predictor, registry.task(data, "vqa"))


def test_targets_longer_than_the_run_s_and_answers_without_an_end_are_counted(directory):
    lengths = {"image": 16, "inputs": 64, "targets": 2}  # two digits and EOS are three
    found = ask(held_out_data.data(directory, split="validation", feature_lengths=lengths))
    assert found.problems["targets_too_long"] == found.problems["answers_cut_off"] == 21
    assert found.values["exact_match"] == 1.0 and not found.examples  # of the task's own right answers, uncut
    lengths = {"image": 16, "inputs": 8, "targets": 48}
    found = ask(held_out_data.data(directory, split="validation", feature_lengths=lengths))
    assert found.problems["prompts_too_long"] == 21


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """A broken image, a record without one (which is no example of an image task), then two that are whole."""
    from paligax.data import records, shards

    path = str(tmp_path_factory.mktemp("damaged"))
    first, second, *whole = (held_out_data.record(3 * i) for i in range(4))
    written = [{**first, "image": first["image"][:60]}, {**second, "image": b""}, *whole]
    shards.write_shards(path, "validation", [records.encode(record) for record in written])
    shards.write_manifest(path)
    return path


def test_broken_images_are_counted(damaged):
    found = ask(held_out_data.data(damaged, split="validation"))
    assert found.problems["skipped"] == {"broken image": 1} and found.problems["missing_images"] == 0
    assert [answer.position for answer in found.answers] == [1, 2]


def test_nothing_to_score_is_an_error_with_the_reasons(damaged):
    with pytest.raises(ValueError, match=r"no usable example in split 'validation': 1 were read \(1 of them: broken"):
        ask(held_out_data.data(damaged, split="validation"), num_examples=1)


def test_images_of_other_rows_are_taken_in_the_batch_s_order():
    where = placement.place({"w": np.zeros(1, np.float32)}, 2 * len(jax.devices()))
    near = [np.full((where.batch_size, 1, 1, 3), i, np.uint8) for i in range(3)]
    source = np.full(where.batch_size, where.batch_size)
    source[0] = 0
    assert where.taken(near, source)[:, 0, 0, 0].tolist() == [0] + [1] * (where.batch_size - 1)
