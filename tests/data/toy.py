"""A small data set with good and bad records, and ordinary seqio tasks over it."""

import functools
import io
import sys
import types

import numpy as np
import pytest
import seqio
from PIL import Image

from paligax.data import Data, features, images, records, shards, text
from paligax.data.runtime import tf
from paligax.data.sources import RecordSource
from paligax.vocabulary import ByteVocabulary

LENGTHS = {"image": 16, "inputs": 64, "targets": 24}


def jpeg(seed: int, height: int = 24, width: int = 32) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((width, height), Image.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def record(i: int, **other) -> dict:
    return {
        "id": f"r{i}",
        "image": jpeg(i),
        "alt_text": [{"lang": "en", "text": f"a cat number {i}"}, {"lang": "de", "text": f"eine Katze {i}"}],
        "qa": [{"lang": "en", "question": f"how many {j}?", "answer": str(i)} for j in range(i % 3)],
        "ocr": [{"lang": "en", "text": "stop", "bbox": [0.1, 0.1, 0.2, 0.3]}],
        "objects": [{"label": "cat", "bbox": [0, 0, 0.5, 0.5], "confidence": 1.0, "verified_absent": False}],
        **other,
    }


@seqio.map_over_dataset
def caption(example):
    example = records.pick(example, "alt_text")
    word = text.random_index(text.fold(example["seed"], "word"), 1000)
    prompt = tf.strings.join([tf.strings.as_string(word), " in ", example["alt_text/lang"], ": <extra_id_0>"])
    example = records.skip_if(example, example["alt_text/text"] == "", "empty text")
    return {**example, "prompt": prompt, "answer": example["alt_text/text"]}


@seqio.map_over_dataset
def question(example):
    example = records.pick(example, "qa")
    references = {"eval/references": example["qa/answer"][None], "eval/size": tf.size(example["alt_text/text"])}
    return {**example, "prompt": example["qa/question"], "answer": example["qa/answer"], **references}


@seqio.map_over_dataset
def segment(example):
    return {**example, "prompt": example["text"], "answer": example["text"]}


def steps(*own, image=True):
    """Ordinary seqio preprocessors, rekey among them: it drops the seed, the item and the reason to skip."""
    keys = {"inputs": "prompt", "targets": "answer"} | ({"image": "image"} if image else {})
    return [
        records.unpack,
        *([images.feed] if image else []),
        *own,
        functools.partial(seqio.preprocessors.rekey, key_map=keys),
        seqio.preprocessors.tokenize,
        seqio.preprocessors.append_eos_after_trim,
    ]


def add_task(data, name, items, preprocessors, image=True):
    seqio.TaskRegistry.remove(name)
    outputs = features.output_features(data.feature_lengths, data.vocabulary, image=image)
    source = RecordSource(data.data_dir, items=items)
    return seqio.TaskRegistry.add(name, source=source, preprocessors=preprocessors, output_features=outputs)


def register(data):
    add_task(data, "toy_caption", "alt_text", steps(caption))
    add_task(data, "toy_question", "qa", steps(question))
    add_task(data, "toy_text", "text", steps(segment, image=False), image=False)
    seqio.MixtureRegistry.remove("toy")
    seqio.MixtureRegistry.add("toy", [("toy_caption", 100.0), ("toy_question", 50.0), ("toy_text", 30.0)])


@pytest.fixture(scope="session")
def toy_module():
    module = types.ModuleType("toy_tasks")
    module.register = register
    sys.modules["toy_tasks"] = module
    return module


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """40 good records and 10 text-only ones in three shards."""
    directory = str(tmp_path_factory.mktemp("toy"))
    good = [record(i) for i in range(40)] + [{"id": f"t{i}", "text": f"once upon a time {i}"} for i in range(10)]
    shards.write_shards(directory, "train", [records.encode(r) for r in good], num_shards=3)
    shards.write_shards(directory, "validation", [records.encode(record(100 + i)) for i in range(7)])
    records.write_manifest(directory)
    return directory


@pytest.fixture
def data(data_dir, toy_module):
    return Data("toy", LENGTHS, 12, ByteVocabulary(), data_dir=data_dir, task_modules=("toy_tasks",))
