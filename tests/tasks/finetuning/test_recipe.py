"""A recipe from end to end: published files, a pretrained model, fine-tuning at another resolution, scores."""

import json
import pathlib

import pytest

from paligax import cli
from tests.tasks.finetuning.published_files import PUT
from tests.tiny_run import GIN, write_records

# Of a tiny model, in place of the recipe's; everything else of the recipe stays.
TINY = GIN.partition("VOCABULARY = ")[0].replace("include 'runs/train.gin'\n", "") + "VOCABULARY = @ByteVocabulary()\n"
HERE = """
INITIAL_CHECKPOINT_PATH = 'runs/pretrained'
TASK_FEATURE_LENGTHS = {'image': 24, 'inputs': 96, 'targets': 16}
BATCH_SIZE = 8
TRAIN_STEPS = 2
Trainer.compile_cache = ''
"""


@pytest.mark.slow
def test_from_published_files_to_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("pretrain.gin").write_text(GIN)
    pathlib.Path("tiny.gin").write_text(TINY + HERE)
    write_records()
    assert cli.main(["train", "--gin_file=pretrain.gin", "--model_dir=runs/pretrained"]) == 0
    for name in ("textvqa", "nocaps", "imagenet"):
        PUT[name](tmp_path / "unpacked" / name)
        assert cli.main(["data", "build", name, f"--published=unpacked/{name}", f"--data_dir=data/{name}"]) == 0
    recipe = ["--gin_file=experiments/finetune_textvqa.gin", "--gin_file=tiny.gin", "--model_dir=runs/textvqa"]
    assert cli.main(["train", *recipe]) == 0
    said = capsys.readouterr().out
    assert "vision/pos_embedding" in said and "resampled 1×4×8 → 1×9×8 (half_pixel)" in said
    assert "textvqa: vqa_accuracy" in said
    evaluation = ["eval", "--checkpoint=runs/textvqa", "--json=scores.json"]
    for task, headline in (("textvqa", "vqa_accuracy"), ("nocaps", "cider"), ("imagenet", "accuracy")):
        behind = [] if task == "textvqa" else [f"--gin_file=evaluations/{task}.gin"]
        assert cli.main([*evaluation, *behind]) == 0
        ((name, scores),) = json.loads(pathlib.Path("scores.json").read_text()).items()
        assert name == task and next(iter(scores)) == headline and 0 <= scores[headline] <= 10
