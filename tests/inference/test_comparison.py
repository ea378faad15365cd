import dataclasses
import json
import pathlib

import numpy as np
import pytest

from paligax.inference import comparison
from paligax.inference.evaluation import Evaluator
from paligax.inference.subject import Subject
from tests.inference import held_out_data

LENGTHS = {"image": held_out_data.SIDE, "inputs": 64, "targets": 48}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("held_out"))
    held_out_data.write(path)
    return path


def subject(module, params, vocabulary=None, lengths=LENGTHS):
    return Subject("here", module, vocabulary, lengths, "", (), pathlib.Path("eval"), lambda: params)


def evaluator(directory, *tasks, **other):
    return Evaluator(held_out_data.data(directory, **other), tasks=tasks, num_shown=1)


@pytest.fixture(scope="module")
def forgetful(params):
    """The same weights but for the decoder's, which have moved."""
    rng = np.random.default_rng(0)
    moved = params["language"]["logits"]["kernel"]
    moved = moved + rng.normal(0, 0.5, moved.shape).astype(np.float32)
    return {**params, "language": {**params["language"], "logits": {"kernel": moved}}}


@pytest.mark.slow
def test_an_mt5_and_the_pali_that_it_became(directory, module, params, vocabulary):
    """Where the image is masked, a PaLI answers as its language tower does alone."""
    mt5 = subject(module.language, params["language"], lengths={})
    pali = subject(module, params, vocabulary)
    (same,) = comparison.compare(evaluator(directory, "span_corruption"), mt5, pali).values()
    assert list(same.before) == ["token_accuracy", "span_accuracy", "nats_per_token"] and same.examples == 5
    assert same.before == pytest.approx(same.after, rel=1e-4)
    assert same.lost["nats_per_token"] == pytest.approx(0, abs=1e-3) and same.before["nats_per_token"] > 3


@pytest.mark.slow
def test_nats_are_those_of_the_targets_tokens(directory, module, params, vocabulary, forgetful):
    """Each example counts by its tokens, so that the mean is over all tokens; what is lost has its interval."""
    from paligax.inference import likelihood

    data = held_out_data.data(directory, split="validation")
    total, tokens = [0.0, 0.0], 0.0
    for batch in data.evaluation("vqa"):
        b = batch.batch
        tokens += float(b.weights.sum())
        for i, weights in enumerate((params, forgetful)):
            found = likelihood.of_targets(module, weights, (b.image, b.inputs, b.image_mask), b.targets)
            total[i] -= float((np.asarray(found.tokens) * b.weights).sum())
    subjects = [subject(module, weights, vocabulary) for weights in (params, forgetful)]
    one = comparison.compare(evaluator(directory, "vqa"), *subjects)["vqa"]
    assert one.before["nats_per_token"] == pytest.approx(total[0] / tokens, rel=1e-5)
    assert one.after["nats_per_token"] == pytest.approx(total[1] / tokens, rel=1e-5)
    assert one.lost["nats_per_token"] == one.after["nats_per_token"] - one.before["nats_per_token"]
    assert one.lost["exact_match"] == one.before["exact_match"] - one.after["exact_match"]
    low, high = one.nats_interval
    assert low < one.lost["nats_per_token"] < high and high - low < 3
    assert "blind" not in one.before and one.examples == sum(1 + i % 3 for i in range(11))


def test_an_mt5_is_shown_no_image(directory, module, params, vocabulary):
    mt5 = subject(module.language, params["language"], lengths={})
    with pytest.raises(ValueError, match="sees no images"):
        comparison.compare(evaluator(directory, "vqa"), mt5, subject(module, params, vocabulary))


def test_json_and_table(capsys):
    one = comparison.Compared({"cer": 0.5, "nats_per_token": 1.0}, {"cer": float("nan"), "nats_per_token": 1.5},
                              {"cer": float("nan"), "nats_per_token": 0.5}, (0.25, 0.75), 7)  # fmt: skip
    found = comparison.described({"a": one}, "x", "y")
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "before": "x", "after": "y", "tasks": {"a": {
            "before": {"cer": 0.5, "nats_per_token": 1.0}, "after": {"cer": None, "nats_per_token": 1.5},
            "lost": {"cer": None, "nats_per_token": 0.5}, "nats_interval": [0.25, 0.75], "examples": 7}},
    }  # fmt: skip
    comparison.print_table({"a": dataclasses.replace(one)})
    assert "+0.500 [+0.250, +0.750]" in capsys.readouterr().out


@pytest.mark.slow
def test_the_verb(directory, module, params, vocabulary, forgetful, tmp_path):
    from paligax import cli
    from paligax.inference.export import export

    for name, weights in (("before", params), ("after", forgetful)):
        export(tmp_path / name, module, weights, vocabulary, feature_lengths=LENGTHS)
    words = [f"--{name}={tmp_path / name}" for name in ("before", "after")]
    words += ["--gin_file=evaluations/text_kept.gin", f"--json={tmp_path / 'kept.json'}", "--gin.BATCH_SIZE=8"]
    words += ["--gin.MIXTURE_OR_TASK_NAME=pali_pretrain", f"--gin.DATA_DIR={directory}"]
    assert cli.main(["compare", *words]) == 0
    (task,) = json.loads((tmp_path / "kept.json").read_text())["tasks"].items()
    assert task[0] == "span_corruption" and task[1]["examples"] == 5
    assert task[1]["lost"]["nats_per_token"] == pytest.approx(
        task[1]["after"]["nats_per_token"] - task[1]["before"]["nats_per_token"]
    )
