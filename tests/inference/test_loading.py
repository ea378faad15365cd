import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import paligax
from paligax import image as image_lib
from paligax.inference import decoding, export, likelihood, loading, rows
from tests.inference import saved_run

PROMPTS = ["Answer in EN: what? <extra_id_0>", "detect cat", "Answer in EN: where? <extra_id_0>"]


@pytest.fixture(scope="module")
def directory(module, params, vocabulary, lengths, tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model"
    return export.export(path, module, params, vocabulary, feature_lengths=lengths, metrics={"vqa": {"blind": 0.5}})


@pytest.fixture(scope="module")
def loaded(directory):
    return paligax.load(directory)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(5)
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((40, 30), (16, 16), (9, 70))]


def test_what_was_exported_is_opened(loaded, module, params, vocabulary, lengths):
    assert loaded.module == module and loaded.vocabulary == vocabulary and loaded.feature_lengths == lengths
    assert set(loaded.params) == {"vision", "projection", "language"} and type(loaded.params) is dict
    np.testing.assert_array_equal(loaded.params["language"]["token_embedder"], params["language"]["token_embedder"])
    assert loaded.description["metrics"] == {"vqa": {"blind": 0.5}}


def test_generate_is_greedy_decoding_of_images_and_prompts_as_training_has_them(
    loaded, module, params, vocabulary, images
):
    inputs = np.zeros((8, 32), np.int32)
    for row, prompt in enumerate(PROMPTS):
        text, _, sentinel = prompt.partition(" <extra_id_0>")
        ids = vocabulary.encode(text)
        end = [vocabulary.sentinel(0), 1] if " <extra_id_0>" in prompt else [1]
        inputs[row, : len(ids) + len(end)] = ids + end
    image = np.zeros((8, 16, 16, 3), np.uint8)
    image[:3] = [image_lib.resize(i, 16) for i in images]
    mask = np.arange(8) < 3
    tokens = decoding.greedy(module, params, image, inputs, mask, max_length=12, active=mask)
    assert loaded.generate(images, PROMPTS) == [vocabulary.decode(row) for row in np.asarray(tokens)[:3]]
    assert len(set(loaded.generate(images, PROMPTS))) == 3


def test_how_many_are_asked_at_once_changes_nothing(loaded, images, monkeypatch):
    monkeypatch.setattr(loading, "BATCH_SIZES", (8,))
    many = [images[i % 3] for i in range(19)], [PROMPTS[i % 2] for i in range(19)]
    together = loaded.generate(*many)
    assert together[:3] == loaded.generate(many[0][:3], many[1][:3]) and together[18] == together[0]
    assert loaded.generate([images[1]], PROMPTS[1:2]) == together[1:2]
    assert loaded.generate([], []) == []


def test_images_may_be_one_array_or_missing(loaded, images):
    array = np.stack([image_lib.resize(image, 20) for image in images])
    assert loaded.generate(array, PROMPTS) == loaded.generate(list(array), PROMPTS)
    blank = loaded.generate(None, PROMPTS)
    assert blank == loaded.generate([None] * 3, PROMPTS)
    mixed = loaded.generate([images[0], None, images[2]], PROMPTS)
    assert mixed[0] == loaded.generate(images, PROMPTS)[0] and mixed[1] == blank[1]


def test_long_prompts_lose_words_but_not_the_sentinel(loaded, vocabulary):
    ids = rows.prompt_ids(loaded.vocabulary, "Answer in EN: " + "x" * 50 + " <extra_id_0>", 32)
    assert len(ids) == 32 and ids[-2:] == [vocabulary.sentinel(0), 1]
    assert vocabulary.decode(ids[:-2]) == "Answer in EN: " + "x" * 16
    ids = rows.prompt_ids(loaded.vocabulary, "detect " + "x" * 50, 32)
    assert len(ids) == 32 and ids[-1] == 1 and vocabulary.decode(ids) == "detect " + "x" * 24


@pytest.mark.parametrize(
    "images, prompts, message",
    [
        ([np.zeros((4, 4, 3), np.float32)], ["a"], r"Image 0 is float32\[4, 4, 3\]; expected uint8\[H, W, 3\]"),
        ([np.zeros((4, 4), np.uint8)], ["a"], r"expected uint8\[H, W, 3\]"),
        ([np.zeros((0, 4, 3), np.uint8)], ["a"], r"expected uint8\[H, W, 3\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), ["a"], "Got 2 images and 1 prompts"),
        (None, "a", "list of texts"),
        (None, [b"a"], "Prompts must be texts, got bytes"),
    ],
)
def test_what_does_not_fit_is_refused(loaded, images, prompts, message):
    with pytest.raises(ValueError, match=message):
        loaded.generate(images, prompts)


def spoil(directory, tmp_path, change):
    path = tmp_path / "spoilt"
    shutil.copytree(directory, path)
    change(path)
    return path


def rewrite(name, **changes):
    def change(path):
        values = json.loads((path / name).read_text())
        (path / name).write_text(json.dumps({k: v for k, v in (values | changes).items() if v != "gone"}))

    return change


@pytest.mark.parametrize(
    "change, error, message",
    [
        (lambda p: (p / "model.safetensors").unlink(), FileNotFoundError, "model.safetensors.*copied completely"),
        (lambda p: (p / "architecture.json").unlink(), FileNotFoundError, "architecture.json.*copied completely"),
        (
            lambda p: (p / "model.safetensors").write_bytes((p / "model.safetensors").read_bytes()[:-100]),
            ValueError,
            "cut short",
        ),
        (lambda p: (p / "paligax.json").write_text('{"format": "pal'), ValueError, "no valid JSON"),
        (lambda p: (p / "paligax.json").write_text("[]"), ValueError, "holds no JSON object"),
        (
            rewrite("paligax.json", format_version=2),
            ValueError,
            "version 2; this paligax reads format 'paligax', version 1",
        ),
        (rewrite("paligax.json", image_filter="area"), ValueError, "'area'; this paligax resizes with 'triangle'"),
        (rewrite("paligax.json", feature_lengths="gone"), ValueError, "lacks feature_lengths"),
        (rewrite("paligax.json", feature_lengths={"image": 16}), ValueError, "lack inputs, targets"),
        (
            rewrite("paligax.json", vocabulary={"class": "SentencePieceVocabulary", "path": "vocabulary.model"}),
            FileNotFoundError,
            "No vocabulary file",
        ),
        (rewrite("architecture.json", **{"class": "PaLIX"}), ValueError, "'PaLIX' is not known"),
        (
            rewrite("paligax.json", feature_lengths={"image": 24, "inputs": 32, "targets": 12}),
            ValueError,
            r"vision/pos_embedding has shape \(1, 4, 16\), the model expects \(1, 9, 16\)",
        ),
    ],
)
def test_a_damaged_export_is_told_clearly(directory, tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        paligax.load(spoil(directory, tmp_path, change))


def test_what_is_no_export_is_told_clearly(directory, tmp_path):
    with pytest.raises(FileNotFoundError, match="No directory.*paligax export"):
        paligax.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is a file"):
        paligax.load(directory / "paligax.json")
    with pytest.raises(FileNotFoundError, match="neither an export .* nor a run"):
        paligax.load(tmp_path)


@pytest.mark.slow
def test_opening_and_generating_import_no_training_library(directory):
    """A fresh interpreter in which TensorFlow, seqio, gin, orbax and optax can't even be imported."""
    code = f"""
import sys
banned = ("tensorflow", "seqio", "gin", "orbax", "optax", "tensorflow_datasets", "paligax.data", "paligax.training")
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in banned:
            raise ImportError(name + " is not needed here")
sys.meta_path.insert(0, Refuse())
import paligax
assert "jax" not in sys.modules and "numpy" not in sys.modules
model = paligax.load({str(directory)!r})
import numpy as np
print(model.generate([np.zeros((5, 7, 3), np.uint8)], ["Answer in EN: what? <extra_id_0>"]))
print([name for name in banned if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers, imported = done.stdout.splitlines()
    assert answers.startswith("['") and imported == "[]"


def test_a_run_can_be_opened_like_its_export_and_exported_from_there(
    loaded, module, params, vocabulary, lengths, images, tmp_path
):
    saved_run.save(
        tmp_path / "run",
        module,
        params,
        vocabulary,
        "SEED = 3\nMIXTURE_OR_TASK_NAME = 'mini'\n",
        lengths,
    )
    answers = loaded.generate(images, PROMPTS)
    for place in ("run", "run/checkpoints/7"):
        opened = paligax.load(tmp_path / place)
        assert opened.feature_lengths == lengths and opened.vocabulary == vocabulary
        assert opened.description == {"data": {"mixture": "mini", "seed": "3"}}
        assert opened.generate(images, PROMPTS) == answers
    out = export.export(
        tmp_path / "out", opened.module, opened.params, opened.vocabulary, feature_lengths=opened.feature_lengths
    )
    assert paligax.load(out).generate(images, PROMPTS) == answers


def test_a_classifier_run_is_opened_and_generates_nothing(tmp_path):
    from paligax import models

    vision = models.ViT(width=16, depth=1, mlp_dim=32, num_heads=2, patch_size=8)
    module = models.Classifier(vision=vision, num_classes=3, num_region_classes=2, grid=2)
    shapes = models.abstract_params(module, {"image": 16})
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    saved_run.save(tmp_path, module, params, None, "Trainer.seed = 1\n", {"image": 16, "labels": 11})
    opened = paligax.load(tmp_path)
    assert opened.feature_lengths == {"image": 16, "labels": 11} and opened.vocabulary is None
    with pytest.raises(ValueError, match="Classifier generates no text"):
        opened.generate(None, ["what?"])


@pytest.mark.slow
def test_options_of_decoding_reach_the_model(loaded, images):
    greedy = loaded.generate(images, PROMPTS)
    assert loaded.generate(images, PROMPTS, num_beams=1) == greedy
    beams = loaded.generate(images, PROMPTS, num_beams=4, num_samples=3)
    assert [len(answers) for answers in beams] == [3, 3, 3] and len(set(sum(beams, []))) > 6
    assert loaded.generate(images, PROMPTS, num_beams=4) == [answers[0] for answers in beams]
    drawn = loaded.generate(images, PROMPTS, temperature=1.5, num_samples=2, seed=3)
    assert loaded.generate(images[1:2], PROMPTS[1:2], temperature=1.5, num_samples=2, seed=3) == drawn[1:2]
    assert loaded.generate(images, PROMPTS, temperature=1.5, num_samples=2, seed=4) != drawn
    assert max(map(len, loaded.generate(images, PROMPTS, max_length=2))) <= 2
    with pytest.raises(ValueError, match="no option 'num_beam'. Nearest: 'num_beams'"):
        loaded.generate(images, PROMPTS, num_beam=2)


@pytest.mark.slow
def test_given_answers_are_scored(loaded, module, params, vocabulary, images):
    answers = ["a cat", "no", "blue"]
    scores = loaded.score(images, PROMPTS, answers)
    assert scores.shape == (3, 3) and scores.dtype == np.float32 and (scores < 0).all()
    np.testing.assert_allclose(loaded.score(images[2:], PROMPTS[2:], answers[::-1])[0, ::-1], scores[2], atol=1e-4)
    targets = np.zeros((8, 5), np.int32)
    targets[:, :3] = [*vocabulary.encode("no"), 1]
    (example, active), *rest = loaded._batches(loaded._rows(images, PROMPTS))
    assert not rest and active.sum() == 3
    want = likelihood.of_targets(module, params, example, targets).total
    np.testing.assert_allclose(scores[:, 1], np.asarray(want)[:3], atol=1e-4)
    with pytest.raises(ValueError, match="answers must be a list of texts"):
        loaded.score(images, PROMPTS, "no")
