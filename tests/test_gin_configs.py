"""Every packaged gin file can be run: no mistake in its names, types and required values, and its tasks are there."""

import os
import pathlib

import pytest

from paligax import cli, configuration
from paligax.configuration import names, reading

EXPERIMENTS = sorted(path.name for path in (reading.GIN_CONFIGS / "experiments").glob("*.gin"))
EVALUATIONS = sorted(path.name for path in (reading.GIN_CONFIGS / "evaluations").glob("*.gin"))
FINETUNING = [name for name in EXPERIMENTS if name.startswith("finetune_")]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    """A sentencepiece model with mT5's sentinels inside."""
    import io

    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(["a red cat sits on a green sofa", "premise question context"] * 3), model_writer=model,
        vocab_size=60, hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    proto = sentencepiece_model_pb2.ModelProto.FromString(model.getvalue())
    for k in reversed(range(100)):
        proto.pieces.add(
            piece=f"▁<extra_id_{k}>", score=0.0, type=sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED
        )
    path = tmp_path_factory.mktemp("vocabulary") / "mt5.model"
    path.write_bytes(proto.SerializeToString())
    return str(path)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_all_that_a_run_needs(name):
    config = configuration.parse([f"experiments/{name}"])
    assert "Trainer" in config.bound


@pytest.mark.parametrize("name", FINETUNING)
def test_paligax_check_passes_on_every_fine_tuning_recipe(name, vocabulary, capsys):
    assert cli.main(["check", f"--gin_file=experiments/{name}", f"--gin.VOCABULARY_PATH={vocabulary}"]) == 0
    said = capsys.readouterr().out
    task = name.removeprefix("finetune_").removesuffix(".gin")
    tasks = "boolq, cb, copa, rte, wic" if task == "super_glue" else task
    assert said.endswith(f"Tasks of {task}: {tasks}.\n")


def test_what_a_recipe_trains():
    trainer = configuration.parse(["experiments/finetune_textvqa.gin"], roots=["Trainer"]).build("Trainer")
    assert trainer.data.feature_lengths == {"image": 490, "inputs": 256, "targets": 32}
    assert trainer.data.batch_size == 128 and trainer.train_steps == 5000
    assert trainer.model.language.dropout == 0.1
    assert float(trainer.optimizer.learning_rate(999)) == pytest.approx(1e-4)
    (source,) = trainer.initial_sources
    assert source.path == "runs/pali_3b" and source.mapping == (("", ""),)
    assert trainer.evaluator.data.mixture_or_task == "textvqa" and trainer.evaluator.every_steps == 2500


def test_a_larger_model_is_another_gin_file():
    files = ["experiments/finetune_vqav2.gin", "models/pali_17b.gin"]
    words = ["TASK_FEATURE_LENGTHS={'image': 588, 'inputs': 64, 'targets': 16}", "VOCABULARY_PATH=x"]
    trainer = configuration.parse(files, words, ["Trainer"]).build("Trainer")
    assert trainer.model.vision.width == 1792 and trainer.model.language.dropout == 0.1
    assert trainer.data.feature_lengths["image"] == 588


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluations_are_read_behind_a_checkpoints_configuration(name):
    """They leave alone what the model was trained with: its lengths."""
    trained = configuration.parse(
        ["experiments/finetune_coco_captions.gin"], ["TASK_FEATURE_LENGTHS={'image': 588, 'inputs': 9, 'targets': 9}"]
    )
    files = ["runs/eval.gin", f"evaluations/{name}"]
    evaluator = configuration.parse(files, roots=["Evaluator"], text=trained.text).build("Evaluator")
    assert evaluator.data.feature_lengths == {"image": 588, "inputs": 9, "targets": 9}
    task = name.removesuffix(".gin")
    assert evaluator.tasks == (("span_corruption",) if task == "text_kept" else (task,))
    assert evaluator.split == "validation"


def test_the_evaluations_of_a_model_on_other_data(vocabulary, tmp_path, monkeypatch):
    """NoCaps, XM3600 and ImageNet on what was trained on COCO: tasks that are there, and class names that are read."""
    os.makedirs(tmp_path / "data/imagenet")
    monkeypatch.chdir(tmp_path)
    for file, lines in {"classes": "n01440764\nn01443537\n", "class_names": "tench\ngoldfish\n"}.items():
        pathlib.Path(f"data/imagenet/{file}.txt").write_text(lines)
    for task in ("nocaps", "xm3600", "imagenet"):
        files = ["experiments/finetune_coco_captions.gin", f"evaluations/{task}.gin"]
        config = configuration.parse(files, [f"VOCABULARY_PATH={vocabulary}"], ["Evaluator"])
        assert config.build("Evaluator").data.tasks() == [task]


def test_macros_of_the_recipes_are_known():
    assert {"INITIAL_CHECKPOINT_PATH", "VOCABULARY_PATH", "DATA_DIR"} <= set(names.MACROS)
