"""The examples of the documentation work as they stand there."""

import pathlib
import re
import textwrap

import pytest

from paligax import configuration
from tests.tiny_run import GIN, write_records

DOCS = pathlib.Path(__file__).resolve().parents[1] / "docs"


def block(document: str, with_words: str) -> str:
    """The indented block of a page that contains these words."""
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", (DOCS / document).read_text(), re.M)
    return textwrap.dedent(next(block for block in blocks if with_words in block))


def test_the_experiment_of_the_launch_page_has_no_mistake():
    config = configuration.parse([], text=block("launch.md", "include 'models/"), roots=["Trainer"])
    assert config.build("Data").batch_size == 4096


def test_the_sources_of_the_weights_page_have_no_mistake():
    run = block("launch.md", "include 'models/")
    config = configuration.parse([], text=run + block("weights.md", "vision/InitialSource:"), roots=["Trainer"])
    sources = config.build("Trainer").initial_sources
    assert [source.mapping for source in sources] == [(("vision", "vision"),), (("", "language"),)]


def test_the_stage_of_the_training_page_has_no_mistake():
    trainer = configuration.parse([], text=block("training.md", "initial_optimizer = "), roots=["Trainer"]).build(
        "Trainer"
    )
    assert trainer.data.feature_lengths["image"] == 588 and trainer.initial_sources[0].path == "runs/pali_17b"
    assert trainer.initial_optimizer == "runs/pali_17b" and len(trainer.treatments) == 1


def test_the_options_of_the_evaluation_page_have_no_mistake():
    common = ["runs/eval_data.gin", "runs/eval.gin"]
    text = block("evaluation.md", "MIXTURE_OR_TASK_NAME = ")
    options = block("evaluation.md", "Evaluator:") + block("evaluation.md", "Evaluator.candidates")
    words = ["Evaluator.partitioner=@eval/Partitioner()", "eval/Partitioner.tensor=4"]
    evaluator = configuration.parse(common, words, ["Evaluator"], text=text + options).build("Evaluator")
    assert evaluator.decoding.num_beams == 4 and evaluator.partitioner.tensor == 4


@pytest.mark.slow
def test_the_task_module_of_the_tasks_page_feeds_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_records()
    pathlib.Path("my_tasks.py").write_text(block("tasks.md", "def register"))
    words = ["MIXTURE_OR_TASK_NAME=shouted", "Data.task_modules=('my_tasks',)"]
    data = configuration.parse([], words, ["Data"], text=GIN).build("Data")
    batch = next(data.stream().batches()).batch
    assert data.vocabulary.decode(batch.inputs[0]).startswith("Shout the answer: how many are")
    assert batch.weights.any(axis=1).all()
