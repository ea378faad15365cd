"""Zero-shot classification: the most probable of given answers, from gin, on any task."""

import jax
import numpy as np
import pytest

from paligax import configuration, models
from paligax.inference import likelihood
from paligax.inference.evaluation import Evaluator
from paligax.inference.generation import Decoding
from paligax.inference.loading import Loaded
from tests.inference import held_out_data

ORACLE = held_out_data.Oracle()
NUMBERS = tuple(str(held_out_data.FIRST + i) for i in range(11))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("candidates"))
    held_out_data.write(path)
    return path


@pytest.fixture(scope="module")
def model(vocabulary):
    vision = models.ViT(width=16, depth=1, mlp_dim=32, num_heads=2, patch_size=8)
    language = models.MT5(16, 32, 1, 1, num_heads=2, head_dim=8, vocab_size=vocabulary.size, num_buckets=8)
    module = models.PaLI(vision=vision, language=language)
    rng = np.random.default_rng(0)
    lengths = {"image": 16, "inputs": 64, "targets": 48}
    shapes = models.abstract_params(module, lengths)
    return module, jax.tree.map(lambda leaf: rng.normal(0, 0.35, leaf.shape).astype(np.float32), shapes), lengths


@pytest.mark.slow
def test_accuracy_is_that_of_the_most_probable_name(directory, model, vocabulary, monkeypatch):
    module, params, lengths = model
    calls = []
    scored = likelihood.of_candidates
    monkeypatch.setattr(likelihood, "of_candidates", lambda *a, **k: calls.append(1) or scored(*a, **k))
    data = held_out_data.data(directory, feature_lengths=lengths)
    evaluator = Evaluator(data, tasks=("vqa",), candidates={"vqa": NUMBERS}, num_shown=30, resamples=50)
    found = evaluator.run(module, params)
    assert len(calls) == 2 * 3  # 24 rows in batches of 8, and the control: the encoder runs once an image
    assert list(found.results["vqa"]) == ["accuracy", "top_5_accuracy", "blind"]
    answers = found.answers["vqa"]
    images = {e.id + e.prompt: e.image for e in found.examples["vqa"]}
    loaded = Loaded(module, params, vocabulary, lengths, {})
    assert len(images) == len(answers) == 21
    for answer in answers[:6]:
        example = answer.shown
        scores = loaded.score([images[example.id + example.prompt]], [example.prompt], NUMBERS)
        np.testing.assert_allclose(answer.prediction, scores[0], rtol=1e-4)
        assert example.prediction == NUMBERS[int(scores[0].argmax())] and NUMBERS[answer.target] == example.target
    hits = [answer.target == int(np.argmax(answer.prediction)) for answer in answers]
    assert found.results["vqa"]["accuracy"] == pytest.approx(np.mean(hits))
    assert found.intervals["vqa"]["accuracy"].of == "mean"


@pytest.mark.slow
def test_tasks_beside_it_are_generated_as_ever(directory, model):
    module, params, lengths = model
    data = held_out_data.data(directory, feature_lengths=lengths)
    options = dict(tasks=("ocr",), num_examples=8, decoding=Decoding(max_length=4))
    alone = Evaluator(data, **options).run(module, params)
    options["tasks"] = ("vqa", "ocr")
    both = Evaluator(data, **options, candidates={"vqa": NUMBERS}).run(module, params)
    assert both.results["ocr"] == alone.results["ocr"] and "accuracy" in both.results["vqa"]


def test_from_gin_with_a_file_of_names(directory, model, tmp_path):
    module, params, _ = model
    names = tmp_path / "classes.txt"
    names.write_text("".join(f"{name}\n" for name in NUMBERS))
    text = f"""
include 'runs/eval_data.gin'
include 'runs/eval.gin'
MIXTURE_OR_TASK_NAME = 'vqa'
TASK_FEATURE_LENGTHS = {{'image': 16, 'inputs': 64, 'targets': 48}}
VOCABULARY = @ByteVocabulary()
ByteVocabulary.extra_ids = 8
DATA_DIR = '{directory}'
BATCH_SIZE = 16
Evaluator.candidates = {{'vqa': '{names}'}}
"""
    evaluator = configuration.parse([], ["Evaluator.blind=False"], ["Evaluator"], text=text).build("Evaluator")
    found = evaluator.run(module, params)
    assert list(found.results["vqa"]) == ["accuracy", "top_5_accuracy"]
    assert found.intervals["vqa"]["accuracy"].resamples == 1000


def test_a_task_may_number_its_classes(directory, model):
    from paligax.inference.candidates import CandidatePredictor

    predictor = CandidatePredictor(model[0], held_out_data.data(directory).vocabulary, ("crane", "crane", "dog"))
    example = {"id": "1", "task": "birds", "references": ["crane"], "targets": "crane"}
    assert predictor.right(None, example) == 0 and predictor.right(None, {**example, "class": 1}) == 1
    assert predictor.target({**example, "references": ["a  Dog", "DOG"]}) == "dog"
    with pytest.raises(ValueError, match="says eval/class=3; there are 3 candidates"):
        predictor.right(None, {**example, "class": 3})


def test_mistakes(directory, model):
    module, params, lengths = model
    data = held_out_data.data(directory, feature_lengths=lengths)
    with pytest.raises(ValueError, match=r"'10', is none of the 2 candidates; the nearest is '100'"):
        Evaluator(data, tasks=("vqa",), candidates={"vqa": ("100", "x")}).run(module, params)
    with pytest.raises(ValueError, match="at least two"):
        Evaluator(data, tasks=("vqa",), candidates={"vqa": ("100",)}).run(module, params)
    with pytest.raises(ValueError, match="names 'ocr', which is not evaluated"):
        Evaluator(data, tasks=("vqa",), candidates={"ocr": NUMBERS}).run(module, params)
    with pytest.raises(FileNotFoundError, match=r"Evaluator.candidates\['vqa'\]"):
        Evaluator(data, tasks=("vqa",), candidates={"vqa": "/nowhere"}).run(module, params)
