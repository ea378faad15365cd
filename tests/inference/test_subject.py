"""What `paligax eval` opens, from the command line, and what it refuses."""

import json
import pathlib

import pytest

from paligax import cli
from paligax.inference import conversion, export
from paligax.inference.evaluation import Evaluator
from paligax.inference.subject import Subject
from paligax.vocabulary import ByteVocabulary
from tests.inference import held_out_data
from tests.tiny_run import GIN, write_records


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("subject"))
    held_out_data.write(path)
    return path


@pytest.fixture(scope="module")
def exported(module, params, vocabulary, lengths, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model"
    return export.export(path, module, params, vocabulary, feature_lengths=lengths)


def words(directory, *more):
    return ["--gin.MIXTURE_OR_TASK_NAME=pali_pretrain", f"--gin.DATA_DIR={directory}", "--gin.BATCH_SIZE=8", *more]


@pytest.mark.slow
def test_an_export_is_evaluated_as_the_model_is(directory, exported, module, params, lengths, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    some = "--gin.Evaluator.tasks=('vqa', 'span_corruption')"
    assert cli.main(["eval", f"--checkpoint={exported}", *words(directory, some)]) == 0
    read = json.loads((tmp_path / "eval" / "results.json").read_text())
    data = held_out_data.data(directory, feature_lengths=lengths)
    found = Evaluator(data, tasks=("vqa", "span_corruption")).run(module, params)
    for task, values in found.results.items():
        one = read["tasks"][task]
        blind = {"blind": one["blind"]} if one["blind"] is not None else {}
        assert one["metrics"] | blind == values
        assert one["examples"] == found.counts[task]
        assert set(one["confidence_intervals"]) == set(values)
    assert read["checkpoint"] == str(exported) and read["split"] == "validation"
    assert read["tasks"]["vqa"]["problems"]["skipped"] == {"broken image": 3}
    lines = [json.loads(line) for line in (tmp_path / "eval" / "predictions.jsonl").read_text().splitlines()]
    assert [line["position"] for line in lines] == [*range(21), *range(5)]
    assert 'data-task="vqa"' in (tmp_path / "eval" / "eval.html").read_text()


@pytest.mark.slow
def test_foreign_weights_are_asked_tasks_of_text(directory, exported, module, params, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    conversion.convert(exported, tmp_path / "mt5", "hf", "language")
    lengths = {"image": 16, "inputs": 32, "targets": 12}
    own = [f"--gin.TASK_FEATURE_LENGTHS={lengths}", "--gin.Evaluator.resamples=0"]
    assert cli.main(["eval", "--checkpoint=mt5", *words(directory, *own)]) == 2
    assert "VOCABULARY has no value" in capsys.readouterr().err
    own += ["--gin.VOCABULARY=@ByteVocabulary()", "--gin.ByteVocabulary.extra_ids=8", "--json=scores.json"]
    text = "--gin.Evaluator.tasks=('span_corruption',)"
    assert cli.main(["eval", "--checkpoint=mt5", *words(directory, *own, text)]) == 0
    data = held_out_data.data(directory, feature_lengths=lengths)
    found = Evaluator(data, tasks=("span_corruption",)).run(module.language, params["language"])
    assert json.loads((tmp_path / "scores.json").read_text()) == found.results
    assert found.counts == {"span_corruption": 5} and set(found.results["span_corruption"]) == {
        "token_accuracy",
        "span_accuracy",
    }
    assert cli.main(["eval", "--checkpoint=mt5", *words(directory, *own, "--gin.Evaluator.tasks=('vqa',)")]) == 1
    assert "an MT5, which sees no images" in capsys.readouterr().err


def test_a_tower_that_answers_nothing_is_refused(capsys):
    weights = pathlib.Path(__file__).parents[1] / "interop" / "references" / "vit"
    assert cli.main(["eval", f"--checkpoint={weights}"]) == 1
    assert "is a ViT, which answers nothing" in capsys.readouterr().err


def test_another_vocabulary_is_refused(directory, exported, capsys):
    other = ["--gin.VOCABULARY=@ByteVocabulary()", "--gin.ByteVocabulary.extra_ids=4"]
    assert cli.main(["eval", f"--checkpoint={exported}", *words(directory, *other)]) == 1
    said = capsys.readouterr().err
    assert "was trained with ByteVocabulary(extra_ids=8); the gin files name ByteVocabulary(extra_ids=4)" in said


def test_images_of_another_size_are_refused(directory, exported, capsys):
    lengths = "--gin.TASK_FEATURE_LENGTHS={'image': 32, 'inputs': 32, 'targets': 12}"
    assert cli.main(["eval", f"--checkpoint={exported}", *words(directory, lengths)]) == 1
    assert "was trained on images of 16 × 16 px; the data's feature_lengths say 32" in capsys.readouterr().err


def test_labels_are_refused_by_a_model_of_text(directory, exported):
    subject = Subject.open(exported)
    data = held_out_data.data(directory, feature_lengths={"image": 16, "labels": 4}, vocabulary=None)
    with pytest.raises(ValueError, match="is a PaLI, which takes image, inputs, targets; the data's feature_lengths"):
        subject.fitted(Evaluator(data))


def test_a_vocabulary_beyond_the_model_s_rows_is_refused(directory, module, params):
    data = held_out_data.data(directory, vocabulary=ByteVocabulary(extra_ids=400))
    with pytest.raises(ValueError, match="has 659 ids; the model has rows for"):
        Evaluator(data, tasks=("vqa",)).run(module, params)


def test_nothing_and_nonsense(tmp_path, capsys):
    assert cli.main(["eval", f"--checkpoint={tmp_path}/nowhere"]) == 1
    assert "takes a run, one of its checkpoints, an export" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="No checkpoint"):
        Subject.open(tmp_path)


def test_an_export_without_data_says_what_is_missing(exported, capsys):
    assert cli.main(["eval", f"--checkpoint={exported}"]) == 2
    assert "MIXTURE_OR_TASK_NAME" in capsys.readouterr().err


@pytest.mark.parametrize("options", [{"num_examples": 0}, {"batch_size": 0}, {"resamples": -1}])
def test_numbers_that_mean_nothing(options):
    with pytest.raises(ValueError, match=f"Evaluator.{next(iter(options))}="):
        Evaluator(None, **options)


@pytest.mark.slow
def test_while_training_the_numbers_are_those_of_eval_on_that_checkpoint(tmp_path, monkeypatch):
    """And those of the export of it, and of the run's directory, whose newest checkpoint it is."""
    monkeypatch.chdir(tmp_path)
    write_records()
    pathlib.Path("tiny.gin").write_text(
        GIN
        + """
Trainer.evaluator = @Evaluator()
Trainer.checkpoint_every = 1
Evaluator:
    data = @Data()
    every_steps = 1
    seed = 3
"""
    )
    assert cli.main(["train", "--gin_file=tiny.gin", "--model_dir=run"]) == 0
    logged = {}
    for row in map(json.loads, pathlib.Path("run/metrics.jsonl").read_text().splitlines()):
        logged.setdefault(row["step"], {}).update({k: v for k, v in row.items() if k.startswith("eval/vqa/")})
    for checkpoint, step in (("run/checkpoints/1", 1), ("run/checkpoints/2", 2), ("run", 2)):
        assert cli.main(["eval", f"--checkpoint={checkpoint}"]) == 0
        one = json.loads(pathlib.Path(f"run/eval/{step}/results.json").read_text())["tasks"]["vqa"]
        now = {f"eval/vqa/{name}": value for name, value in (one["metrics"] | {"blind": one["blind"]}).items()}
        assert now == logged[step] and one["examples"] == 18
    assert cli.main(["export", "--checkpoint=run", "--to=exported"]) == 0
    assert cli.main(["eval", "--checkpoint=exported", "--to=e"]) == 0  # with the run's configuration
    assert json.loads(pathlib.Path("e/results.json").read_text())["tasks"]["vqa"] == one | {
        "seconds": pytest.approx(one["seconds"], abs=60)
    }
