import json

import pytest

from paligax.inference import card

CONFIG = """
MIXTURE_OR_TASK_NAME = 'webli'
BATCH_SIZE = 256
TRAIN_STEPS = 1000
SEED = 3
INITIAL_CHECKPOINT_PATH = ''
Adafactor.learning_rate = @InverseSquareRoot()
Adafactor.decay_exponent = 0.8
InverseSquareRoot.peak = 0.01
tower/Cosine.total_steps = 1000
"""


def test_what_it_was_trained_on_is_read_from_the_configuration():
    stated = card.trained_on(CONFIG, step=400, tasks=("vqa", "ocr"))
    assert stated == {
        "mixture": "webli",
        "batch size": "256",
        "steps of the run": "1000",
        "seed": "3",
        "steps of this checkpoint": 400,
        "tasks": "vqa, ocr",
        "learning rate": "Adafactor.learning_rate = @InverseSquareRoot(); InverseSquareRoot.peak = 0.01; "
        "tower/Cosine.total_steps = 1000",
    }
    assert card.trained_on("", rates={"vqa": 3, "ocr": 1}) == {"tasks": "vqa 75 %, ocr 25 %"}


def test_metrics_of_an_evaluation_in_either_form(tmp_path):
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"vqa": {"exact_match": 0.5, "blind": None, "name": "x"}}))
    assert card.read_metrics(file) == {"vqa": {"exact_match": 0.5}}
    task = {"headline": "cider", "metrics": {"cider": 1.25, "f1": None}, "blind": 0.25, "examples": 9}
    file.write_text(json.dumps({"format": 1, "tasks": {"captioning": task}}))
    assert card.read_metrics(file) == {"captioning": {"cider": 1.25, "blind": 0.25}}
    for text, message in (("[1]", "holds no results"), ("{", "is no JSON"), ('{"a": 3}', "holds no results")):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            card.read_metrics(file)
    with pytest.raises(FileNotFoundError, match="`paligax eval` writes results.json"):
        card.read_metrics(tmp_path / "none")


def test_metrics_that_the_run_measured_at_the_checkpoints_step(tmp_path):
    rows = [
        {"step": 100, "eval/vqa/f1": 0.1},
        {"step": 200, "loss": 1.0},
        {"step": 200, "eval/a/b/f1": 0.5, "eval/x": 1},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 200, "ev')
    assert card.metrics_of_run(tmp_path, 200) == {"a/b": {"f1": 0.5}}
    assert card.metrics_of_run(tmp_path, 100) == {"vqa": {"f1": 0.1}}
    assert card.metrics_of_run(tmp_path / "none", 100) == {}
