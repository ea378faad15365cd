import hashlib
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from paligax.data import Data, records
from paligax.vocabulary import SentencePieceVocabulary
from tasks.mini import build, scenes
from tasks.mini.world import world

LENGTHS = {"image": 64, "inputs": 32, "targets": 28}


def _digests(path):
    files = sorted(
        p for p in pathlib.Path(path).iterdir() if p.suffix in (".txt", ".model") or "array_record" in p.name
    )
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build.build(str(tmp_path_factory.mktemp("mini")), size=48)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(built, tmp_path):
    again = build.build(str(tmp_path / "again"), size=48)
    assert _digests(again) == _digests(built)
    other = build.build(str(tmp_path / "other"), size=48, seed=1)
    assert _digests(other)["mini_webli-train.array_record-00000-of-00004"] not in _digests(built).values()


def test_a_second_build_finds_the_first(built):
    before = _digests(built)
    root = pathlib.Path(built).parents[2]
    assert build.build(str(root), size=48) == built and _digests(built) == before


def test_it_is_a_tfds_data_set_of_array_records(built):
    builder = tfds.builder_from_directory(built)
    assert builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD
    sizes = {split: builder.info.splits[split].num_examples for split in scenes.SPLITS}
    assert sizes == {"train": 48 + 6, "validation": 4 + 1, "test": 4 + 1}


def test_what_is_read_is_what_was_drawn(built):
    data = Data("vqa", LENGTHS, 4, SentencePieceVocabulary(f"{built}/vocabulary.model"), "test", data_dir=built,
                task_modules=("tasks.mini.mixture",))  # fmt: skip
    asked = [e for batch in data.evaluation("vqa") for e in batch.examples if e is not None]
    drawn = [scenes.record(world(), 0, "test", i, 96) for i in range(4)]
    assert sorted(e["targets"] for e in asked) == sorted(qa["answer"] for record in drawn for qa in record["qa"])
    assert not any(records.check(record) for record in drawn)


def test_all_tasks_and_classification_stream(built):
    vocabulary = SentencePieceVocabulary(f"{built}/vocabulary.model")
    data = Data("mini", LENGTHS, 64, vocabulary, data_dir=built, task_modules=("tasks.mini.mixture",))
    assert len(data.tasks()) == 8
    item = next(data.stream().batches())
    assert not item.skipped and (item.batch.weights.sum(1) > 0).all()
    names = (pathlib.Path(built) / "labels.txt").read_text(encoding="utf-8").splitlines()
    labels = Data("classification", {"image": 64, "labels": len(names)}, 8, data_dir=built,
                  task_modules=("tasks.mini.mixture",))  # fmt: skip
    batch = next(labels.stream().batches()).batch
    assert batch.labels.shape == (8, len(names)) and (batch.labels.sum(1) >= 3).all()
    assert set(np.unique(batch.labels)) == {0.0, 1.0}


def test_the_vocabulary_spells_words_and_keeps_names_whole(built):
    vocabulary = SentencePieceVocabulary(f"{built}/vocabulary.model")
    assert vocabulary.num_sentinels == 100 and vocabulary.sentinel(0) == vocabulary.size - 1
    assert len(vocabulary.encode("КИТ")) == 4 and len(vocabulary.encode("колокольчик")) == 1
    for text in ("0 31 281 999 banana", "Is cat, rose in the image?", "weiß, колокольчик", "ΩΜΟΣ"):
        assert vocabulary.decode(vocabulary.encode(text)) == text


def test_a_directory_without_the_data_set_is_told(tmp_path):
    data = Data("mini", LENGTHS, 8, None, data_dir=str(tmp_path), task_modules=("tasks.mini.mixture",))
    with pytest.raises(FileNotFoundError, match="paligax data build mini_webli"):
        data.tasks()
