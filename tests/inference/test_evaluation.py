import dataclasses
import re

import jax
import numpy as np
import pytest

from paligax import models
from paligax.inference import evaluation, shown
from paligax.inference.evaluation import Evaluator, HeldOut
from paligax.inference.generation import Decoding
from tests.inference import held_out_data

ORACLE = held_out_data.Oracle()
QUESTIONS = sum(1 + i % 3 for i in range(11))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("held_out"))
    held_out_data.write(path)
    return path


@pytest.fixture(scope="module")
def answered(directory):
    """The oracle on two tasks with images and one without, everything shown."""
    evaluator = Evaluator(held_out_data.data(directory), tasks=("vqa", "ocr", "span_corruption"), num_shown=1000)
    return evaluator.run(ORACLE, ORACLE.params)


def test_one_who_looks_is_right_and_the_blind_control_is_wrong(answered):
    assert list(answered.results) == ["vqa", "ocr", "span_corruption"]
    assert answered.results["vqa"] == {"exact_match": 1.0, "token_f1": 1.0, "blind": 0.0}
    assert next(iter(answered.results["ocr"])) == "character_error_rate"
    assert answered.results["ocr"]["character_error_rate"] == 0.0 and answered.results["ocr"]["blind"] >= 0.5


def test_every_example_once_and_no_unusable_or_padding_row(answered):
    """The twelfth record's image is broken: its item is left out."""
    assert answered.counts == {"vqa": QUESTIONS, "ocr": 11, "span_corruption": 5}
    asked = sorted((e.target, e.prompt) for e in answered.examples["vqa"])
    assert asked == sorted(
        (str(10 + i), f"Answer in EN: which number {j}? <extra_id_0>") for i in range(11) for j in range(1 + i % 3)
    )


def test_control_images_are_those_of_other_records(answered):
    numbers = {str(10 + i) for i in range(11)}
    for example in answered.examples["vqa"]:
        assert example.prediction == example.target == str(example.image[0, 0, 0])
        assert example.blind_prediction in numbers - {example.target}


def test_text_only_tasks_have_no_control_and_no_image(answered):
    assert set(answered.results["span_corruption"]) == {"token_accuracy", "span_accuracy"}
    for example in answered.examples["span_corruption"]:
        assert example.image is None and example.blind_prediction is None and "<extra_id_0>" in example.prompt


def test_num_examples_takes_the_first_ones(directory):
    evaluator = Evaluator(held_out_data.data(directory), tasks=("vqa",), num_examples=5, blind=False, num_shown=1)
    found = evaluator.run(ORACLE, ORACLE.params)
    assert found.counts == {"vqa": 5} and found.results == {"vqa": {"exact_match": 1.0, "token_f1": 1.0}}
    assert len(found.examples["vqa"]) == 1


def test_a_real_model_on_several_tasks_with_one_compiled_program(directory, vocabulary):
    from paligax.inference import decoding

    data = held_out_data.data(directory, batch_size=16)
    vision = models.ViT(width=16, depth=1, mlp_dim=32, num_heads=2, patch_size=8)
    language = models.MT5(16, 32, 1, 1, num_heads=2, head_dim=8, vocab_size=vocabulary.size, num_buckets=8)
    module = models.PaLI(vision=vision, language=language)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.35, leaf.shape).astype(np.float32),
        models.abstract_params(module, data.feature_lengths),
    )
    before = decoding.greedy_program._cache_size()
    found = Evaluator(data, tasks=("captioning", "detection", "ocr", "span_corruption"), num_shown=2).run(
        module, params
    )
    assert decoding.greedy_program._cache_size() == before + 1
    headlines = {task: next(iter(metrics)) for task, metrics in found.results.items()}
    assert headlines == {
        "captioning": "token_f1",
        "detection": "ap50",
        "ocr": "character_error_rate",
        "span_corruption": "token_accuracy",
    }
    assert {task for task, metrics in found.results.items() if "blind" not in metrics} == {"span_corruption"}
    assert all(isinstance(v, float) for metrics in found.results.values() for v in metrics.values())
    assert found.counts["captioning"] == 22 and found.counts["detection"] == 11
    (box,) = found.examples["detection"][0].true_boxes
    np.testing.assert_allclose(dataclasses.astuple(box)[1:], [0.1, 0.2, 0.5, 0.9], atol=1e-6)
    assert box.label in ("cat", "dog")
    assert [example.worst for example in found.examples["ocr"]] == [False, False, True, True]


def test_a_classifier_is_scored_by_label_set_and_group(directory, tmp_path):
    vision = models.ViT(width=16, depth=1, mlp_dim=32, num_heads=2, patch_size=8)
    module = models.Classifier(vision=vision, num_classes=4)
    lengths = {"image": held_out_data.SIDE, "labels": 4}
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), models.abstract_params(module, lengths))
    params["head"]["bias"] = np.array([1, -1, 2, -2], np.float32)  # says cat and red, whatever it sees
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in held_out_data.CLASSES))
    evaluator = Evaluator(
        held_out_data.data(directory, mixture_or_task="classification", feature_lengths=lengths, vocabulary=None),
        num_shown=11,
        class_names=str(tmp_path / "labels.txt"),
        label_groups={"colours": "red|blue", "animals": ".*"},
    )
    found = evaluator.run(module, params)
    results = found.results["classification"]
    assert list(results)[0] == "mean_average_precision" and list(results)[-1] == "blind"
    assert results["exact_label_set"] == pytest.approx(3 / 11)  # records 0, 4 and 8
    assert results["exact_animals"] == pytest.approx(6 / 11) and results["exact_colours"] == pytest.approx(6 / 11)
    assert {example.prediction for example in found.examples["classification"]} == {"cat, red"}
    assert {example.target for example in found.examples["classification"]} == {
        f"{animal}, {colour}" for animal in ("cat", "dog") for colour in ("red", "blue")
    }


def test_what_was_found_survives_the_process(answered, tmp_path):
    answered.save(tmp_path)
    answered.save(tmp_path)  # replaces what was there
    again = HeldOut.load(tmp_path)
    assert again.results == answered.results and again.counts == answered.counts
    assert list(again.examples) == list(answered.examples)
    for task, examples in answered.examples.items():
        for before, after in zip(examples, again.examples[task], strict=True):
            np.testing.assert_array_equal(before.image, after.image)
            assert dataclasses.replace(before, image=None) == dataclasses.replace(after, image=None)
    with pytest.raises(FileNotFoundError, match="paligax eval"):
        HeldOut.load(tmp_path / "elsewhere")


def test_prompts_for_the_card(answered):
    assert answered.prompts()["ocr"] == "Generate the ocr_text in en: <extra_id_0>"


def test_values_that_are_not_finite_are_null_in_json(tmp_path):
    HeldOut({"detection": {"ap50": float("nan")}}, {"detection": []}, {"detection": 0}, {"detection": 0.1}).save(
        tmp_path
    )
    assert '"ap50": null' in (tmp_path / "held_out.json").read_text()
    assert np.isnan(HeldOut.load(tmp_path).results["detection"]["ap50"])


def test_while_training_it_prints_predictions_and_the_table(directory, capsys):
    evaluator = Evaluator(held_out_data.data(directory), tasks=("vqa",), every_steps=10, num_examples=6)
    results = evaluator.evaluate(20, ORACLE, ORACLE.params)
    assert results["vqa"]["exact_match"] == 1.0
    printed = capsys.readouterr().out
    assert "step 20" in printed and "vqa: exact_match 1.000 (blind 0.000), 6 examples" in printed
    assert len(re.findall(r"Answer in EN: which number \d\?.*→ (\d\d)   \(right: \1\)", printed)) == 2


def test_mistakes_are_told_before_anything_is_decoded(directory):
    data = held_out_data.data(directory)
    with pytest.raises(ValueError, match="did you mean 'vqa'"):
        Evaluator(data, tasks=("vqaa",)).run(ORACLE, ORACLE.params)
    with pytest.raises(FileNotFoundError, match="a file with one a line"):
        evaluation.read_names("/nowhere/labels.txt", "Evaluator.class_names")
    with pytest.raises(ValueError, match="matches none of the 4 class names"):
        evaluation.group_classes(held_out_data.CLASSES, {"birds": "eagle"})


def test_shortfall_knows_which_way_is_better():
    example = shown.Shown("1", "", "", "", score=0.25)
    assert example.shortfall == 0.75 and dataclasses.replace(example, lower_is_better=True).shortfall == 0.25
    assert dataclasses.replace(example, score=None).shortfall is None


@pytest.mark.slow
def test_how_answers_are_found_is_an_option(directory, vocabulary):
    data = held_out_data.data(directory)
    vision = models.ViT(width=16, depth=1, mlp_dim=32, num_heads=2, patch_size=8)
    language = models.MT5(16, 32, 1, 1, num_heads=2, head_dim=8, vocab_size=vocabulary.size, num_buckets=8)
    module = models.PaLI(vision=vision, language=language)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.35, leaf.shape).astype(np.float32),
        models.abstract_params(module, data.feature_lengths),
    )
    common = dict(data=data, tasks=("vqa",), num_examples=4, blind=False)
    shown = {}
    for name, decoding in {
        "greedy": Decoding(max_length=6),
        "beams": Decoding(max_length=6, num_beams=3),
        "drawn": Decoding(max_length=6, temperature=2.0),
    }.items():
        found = Evaluator(**common, decoding=decoding).run(module, params)
        shown[name] = [example.prediction for example in found.examples["vqa"]]
    assert len({str(predictions) for predictions in shown.values()}) == 3
    with pytest.raises(ValueError, match="scores one answer a row"):
        Evaluator(**common, decoding=Decoding(temperature=1.0, num_samples=2)).run(module, params)
