"""The commands as a person types them."""

import json
import pathlib
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from paligax import cli, configuration
from paligax.configuration.reading import packaged
from tests.tiny_run import GIN, write_records


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working directory: a run in tiny.gin, whose data would be in data/."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path("tiny.gin").write_text(GIN)
    return tmp_path


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "paligax", *words], capture_output=True, text=True)


def test_help_names_the_verbs(capsys):
    assert cli.main([]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^    {verb}\b", text, re.M) for verb in ("train", "eval", "export", "check", "data"))


@pytest.mark.parametrize(
    "words, said",
    [
        (["trian"], "'train'"),
        (["train", "--gin_fiel=x"], "Nearest: '--gin_file'"),
        (["export", "--checkpoint=x", "--to=y", "--format=onnx"], "saved_model"),
        (["data", "build", "mini_webly", "--data_dir=x"], "mini_webli"),
    ],
)
def test_mistyped_words(words, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        (["train"], "no --gin_file"),
        (["train", "--gin_file=tiny.gin"], "--model_dir"),
        (["train", "--gin_file=tiny.gin", "--model_dir=x", "--gin.Trainer.train_stepz=3"], "Nearest: 'train_steps'"),
        (["check", "--gin_file=tyni.gin"], "no gin file 'tyni.gin'"),
        (["check", "--gin_file=runs/train.gin"], "TRAIN_STEPS has no value"),
    ],
)
def test_mistakes_of_configuration_exit_with_2(words, said, here, capsys):
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err


def test_what_a_room_refuses_is_said_without_a_traceback(here, capsys):
    assert cli.main(["export", "--checkpoint=nowhere", "--to=x"]) == 1
    error = capsys.readouterr().err
    assert "nowhere" in error and "Traceback" not in error and error.startswith("paligax export: ")


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    def fails(arguments):
        """Fails."""
        return {}["x"]

    monkeypatch.setattr(cli, "check", fails)
    with pytest.raises(KeyError):
        cli.main(["check"])


def test_misspelt_bindings_are_named_in_under_four_seconds(here):
    began = time.perf_counter()
    done = run("check", "--gin_file=tiny.gin", "--gin.BATCH_SIZ=3", "--gin.Adafactor.decay=0.8", "--gin.Optimiser.x=1")
    seconds = time.perf_counter() - began
    assert done.returncode == 2
    assert "'BATCH_SIZE'" in done.stderr and "'decay_exponent'" in done.stderr and "'Optimiser'" in done.stderr
    assert seconds < 4


@pytest.mark.parametrize("name", [name for name in packaged() if name.startswith("experiments/")])
def test_packaged_experiments_have_no_mistake(name):
    assert "Trainer" in configuration.parse([name], roots=["Trainer"]).bound


@pytest.mark.parametrize("name", [name for name in packaged() if name.startswith("models/")])
def test_packaged_models_have_no_mistake(name):
    needed = ["MIXTURE_OR_TASK_NAME=x", "TASK_FEATURE_LENGTHS={}", "BATCH_SIZE=1", "TRAIN_STEPS=1"]
    needed += ["VOCABULARY=@ByteVocabulary()"] if "mini" in name else ["VOCABULARY_PATH=mt5.model"]
    config = configuration.parse(["runs/train.gin", name], needed, ["Trainer"])
    assert type(config.build("PaLI")).__name__ == "PaLI"


def test_check_names_the_task_that_is_meant_and_starts_no_accelerator(here):
    code = (
        "from paligax import cli; print(cli.main(['check', '--gin_file=tiny.gin']));"
        "print(cli.main(['check', '--gin_file=tiny.gin', '--gin.MIXTURE_OR_TASK_NAME=vqua']));"
        "from jax._src import xla_bridge; print(xla_bridge._backends)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-4:] == ["0", "Names, types and required values: no mistake.", "1", "{}"], (
        done.stdout + done.stderr
    )
    assert "No mixture or task 'vqua'; did you mean 'vqa'?" in done.stderr


@pytest.mark.slow
def test_train_evaluate_export_inspect(here, capsys):
    write_records()
    assert cli.main(["train", "--gin_file=tiny.gin", "--model_dir=run", "--gin.SEED=3"]) == 0
    config = pathlib.Path("run/config.gin").read_text()
    assert "SEED = 3" in config

    # The run's own configuration is the same run: nothing is left to do.
    assert cli.main(["train", "--gin_file=run/config.gin", "--model_dir=run"]) == 0
    assert "is trained" in capsys.readouterr().out
    assert cli.main(["train", "--gin_file=run/config.gin", "--model_dir=run", "--gin.SEED=4"]) == 1
    assert "another configuration" in capsys.readouterr().err

    words = ["--gin.Evaluator.num_examples=9", "--gin.Evaluator.batch_size=8"]
    assert cli.main(["eval", "--checkpoint=run", "--json=scores/eval.json", *words]) == 0
    scores = json.loads(pathlib.Path("scores/eval.json").read_text())
    assert set(scores["vqa"]) >= {"exact_match", "blind"}

    pathlib.Path("LICENCE").write_text("Pictures by X, CC BY-SA")
    card = ["--metrics=scores/eval.json", "--licence=LICENCE", "--name=tiny"]
    assert cli.main(["export", "--checkpoint=run", "--to=exported", *card]) == 0
    text = pathlib.Path("exported/README.md").read_text()
    assert "Pictures by X, CC BY-SA" in text and text.startswith("# tiny")
    import paligax

    loaded = paligax.load("exported")
    answers = loaded.generate([np.zeros((16, 16, 3), np.uint8)], ["Answer in EN: how many are a? <extra_id_0>"])
    assert len(answers) == 1 and isinstance(answers[0], str)

    assert cli.main(["data", "inspect", "--gin_file=tiny.gin", "--out=sheet.png", "--num=4"]) == 0
    assert pathlib.Path("sheet.png").stat().st_size > 1000 and "Answer in EN" in pathlib.Path("sheet.html").read_text()
