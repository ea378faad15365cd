"""The walk of docs/tasks.md, from a JSON and a folder of images to batches, as it stands there."""

import json
import pathlib
import re
import shutil
import textwrap

import numpy as np
import pytest

import paligax.data
from paligax import cli, configuration
from paligax.data import statistics

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "tasks.md"
# What the walk's machine has and a test hasn't: a vocabulary's file.
WORDS = [
    "VOCABULARY=@ByteVocabulary()",
    "BATCH_SIZE=4",
    "TASK_FEATURE_LENGTHS={'image': 28, 'inputs': 64, 'targets': 16}",
]


def block(with_words: str) -> str:
    """The indented block of the page that begins with these words."""
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", DOCUMENT.read_text("utf-8"), re.M)
    return next(found for found in map(textwrap.dedent, blocks) if found.strip().startswith(with_words)).strip() + "\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The author's folder: photos, shelves.jsonl, my_tasks.py and shelves.gin."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    lines = block('{"id": "1"')
    pathlib.Path("shelves.jsonl").write_text(lines, "utf-8")
    pathlib.Path("photos").mkdir()
    for line in lines.splitlines():
        Image.new("RGB", (30, 40), (int(json.loads(line)["id"]), 0, 0)).save(f"photos/{json.loads(line)['image']}")
    pathlib.Path("my_tasks.py").write_text(block("import seqio"), "utf-8")
    pathlib.Path("shelves.gin").write_text(block("include 'runs/train.gin'"), "utf-8")
    return tmp_path


def build_by_hand() -> None:
    exec(compile(block("import json"), str(DOCUMENT), "exec"), {})  # noqa: S102


def build_by_command() -> None:
    pytest.importorskip("apache_beam", reason="the command needs paligax[ingest]")
    for line in block("paligax data build").splitlines():
        assert cli.main(line.split()[1:]) == 0


def data() -> paligax.data.Data:
    return configuration.parse(["shelves.gin"], WORDS, ["Data"]).build("Data")


@pytest.mark.parametrize("build", [build_by_hand, pytest.param(build_by_command, marks=pytest.mark.slow)])
def test_the_records_are_what_the_lines_say(here, build):
    build()
    (batch,) = data().evaluation("vqa")
    examples = [example for example in batch.examples if example is not None]
    assert [example["id"] for example in examples] == ["1", "2", "2", "3"]
    assert [example["prompt"] for example in examples[:3]] == [
        f"Answer in EN: {question} <extra_id_0>"
        for question in ("how many are open?", "was liegt oben?", "what is on top?")
    ]
    assert [example["targets"] for example in examples[:3]] == ["two", "a box", "a box"]
    assert examples[3]["skip"] == "empty question or answer"


def test_the_task_is_registered_mixed_and_fed(here):
    build_by_hand()
    own = data()
    assert own.tasks() == ["shouted", "vqa"]
    stream = own.stream()
    batch = next(stream.batches())
    shouted = batch.batch.task == stream.task_names.index("shouted")
    assert shouted.sum() == 3  # of four: 3 to 1
    pairs = {
        (own.vocabulary.decode(inputs), own.vocabulary.decode(targets))
        for inputs, targets, weights in zip(
            batch.batch.inputs[shouted], batch.batch.targets[shouted], batch.batch.weights[shouted], strict=True
        )
        if weights.any()
    }
    possible = {"how many are open?": "TWO", "was liegt oben?": "A BOX", "what is on top?": "A BOX"}
    assert pairs and pairs <= {(f"Shout the answer: {q} <extra_id_0>", a) for q, a in possible.items()}
    assert set(batch.skipped) <= {"shouted/empty answer", "vqa/empty question or answer"}
    assert batch.batch.image.shape == (4, 28, 28, 3) and np.isin(batch.batch.image[..., 0], (0, 1, 2, 3)).all()


def test_the_commands_to_look_with(here, capsys):
    build_by_hand()
    words = [f"--gin.{word}" for word in WORDS]
    commands = [line.partition("   ")[0].split()[1:] for line in block("paligax check").splitlines()]
    assert [command[:2] for command in commands] == [
        ["check", "--gin_file=shelves.gin"], ["data", "inspect"], ["data", "stats"],
    ]  # fmt: skip
    assert cli.main([*commands[0], *words]) == 0
    assert "Tasks of my_mixture: shouted, vqa." in capsys.readouterr().out
    assert cli.main([*commands[1], *words]) == 0
    assert (here / "sheet.html").is_file() and (here / "sheet.png").is_file()
    found = statistics.statistics(data())
    assert found["tasks"]["shouted"]["skipped"] == {"empty answer": 1}
    assert found["tasks"]["shouted"]["languages"] == {"en": 2, "de": 1}
    shutil.rmtree(here / "data")


def test_training_begins(here):
    """All names and types of the experiment are right for `paligax train`."""
    config = configuration.parse(["shelves.gin"], WORDS, ["Trainer"])
    assert config.build("Trainer").train_steps == 5000
