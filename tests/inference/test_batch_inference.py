import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

import paligax
from paligax.inference import batch_inference, decoding, export, likelihood, questions, rows
from paligax.inference.answerer import Answerer
from paligax.inference.generation import Decoding
from paligax.training.partitioning import Partitioner


@pytest.fixture(scope="module")
def place(module, params, vocabulary, lengths, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "export"
    return export.export(path, module, params, vocabulary, feature_lengths=lengths)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eleven images of different sizes, two of them broken."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("images")
    for i in range(11):
        data = io.BytesIO()
        image = Image.fromarray(rng.integers(0, 256, (10 + 3 * i, 30, 3), np.uint8))
        image.save(data, "png" if i % 2 else "jpeg")
        (path / f"{i:02}.{'png' if i % 2 else 'jpg'}").write_bytes(data.getvalue()[: 60 if i == 5 else None])
    (path / "08.jpg").write_bytes(b"GIF89a")
    return path


# 267 rows of the vocabulary can't be halved: they stay whole.
CUT = Partitioner(fsdp=2, tensor=2, replicate_indivisible=True)


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("partitioner", [Partitioner(), CUT])
def test_answers_are_those_of_generate(place, folder, partitioner, tmp_path):
    asked = questions.of_folder(folder, "what? <extra_id_0>")
    model = Answerer.open(place, 8, partitioner)
    assert {leaf.sharding.mesh.size for leaf in jax.tree.leaves(model.placed.params)} == {8}
    found = batch_inference.run(model, asked, tmp_path / "o.jsonl", say=lambda line: None)
    assert (found.answered, found.errors, found.resumed) == (9, {"broken image": 1, "not a JPEG or PNG": 1}, 0)
    lines = read(tmp_path / "o.jsonl")
    assert [line["id"] for line in lines] == sorted(file.name for file in folder.iterdir())
    assert lines[5] == {"id": "05.png", "prompt": "what? <extra_id_0>", "error": "broken image"}
    whole = [line for line in lines if "error" not in line]
    images = [(folder / line["id"]).read_bytes() for line in whole]
    want = paligax.load(place).generate(images, [line["prompt"] for line in whole])
    assert [line["prediction"] for line in whole] == want and len(set(want)) > 3


@pytest.mark.slow
def test_scores_are_log_probabilities_of_the_answers(place, module, params, vocabulary, lengths, tmp_path):
    asked = questions.FromFiles([questions.Entry(i, f"q{i} <extra_id_0>") for i in range(3)])
    batch_inference.run(Answerer.open(place, 8), asked, tmp_path / "o.jsonl", score=True, say=lambda line: None)
    prompts = [(None, rows.prompt_ids(vocabulary, entry.prompt, 32)) for entry in asked.entries]
    example, active = rows.stack(prompts, 8, lengths)
    tokens = decoding.greedy(module, params, *example, lengths["targets"], active)
    want = np.asarray(likelihood.of_targets(module, params, example, tokens).total)[:3]
    lines = read(tmp_path / "o.jsonl")
    np.testing.assert_allclose([line["score"] for line in lines], want, rtol=1e-5)
    assert (want < 0).all() and [line["prediction"] for line in lines] == [vocabulary.decode(row) for row in tokens[:3]]


@pytest.mark.slow
def test_several_answers_have_a_score_each(place, tmp_path):
    asked = questions.FromFiles([questions.Entry(i, f"q{i} <extra_id_0>") for i in range(3)])
    options = dict(temperature=1.0, num_samples=2, seed=3)
    model = Answerer.open(place, 8)
    batch_inference.run(model, asked, tmp_path / "o.jsonl", Decoding(**options), score=True, say=lambda line: None)
    lines = read(tmp_path / "o.jsonl")
    want = paligax.load(place).generate(None, [entry.prompt for entry in asked.entries], **options)
    assert [line["predictions"] for line in lines] == want
    assert all(len(line["scores"]) == 2 and max(line["scores"]) < 0 for line in lines)


def test_a_second_start_finds_all_done(place, tmp_path):
    asked = questions.FromFiles([questions.Entry(i, "q") for i in range(3)])
    model = Answerer.open(place, 8)
    batch_inference.run(model, asked, tmp_path / "o.jsonl", say=lambda line: None)
    said = []
    ids = []
    found = batch_inference.run(
        model, asked, tmp_path / "o.jsonl", finishing=lambda lines: ids.extend(o["id"] for o in lines), say=said.append
    )
    assert ids == [0, 1, 2]
    assert (found.answered, found.resumed) == (3, 3) and "3 of 3 answers are there" in said[0]
    with pytest.raises(FileExistsError, match="not of this very job"):
        batch_inference.run(model, asked, tmp_path / "o.jsonl", Decoding(num_beams=2), say=lambda line: None)
