"""`paligax infer` and `paligax export` as a person types them."""

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from paligax import cli, inference_verbs, models
from paligax.inference import export, exporting, stablehlo, submissions
from paligax.inference.generation import Decoding
from paligax.interop import native
from paligax.vocabulary import ByteVocabulary

LENGTHS = {"image": 16, "inputs": 32, "targets": 4}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    vocabulary = ByteVocabulary(extra_ids=8)
    vision = models.ViT(width=16, depth=1, mlp_dim=16, num_heads=2, patch_size=8)
    language = models.MT5(16, 16, 1, 1, num_heads=2, head_dim=8, vocab_size=vocabulary.size, num_buckets=8)
    module, rng = models.PaLI(vision=vision, language=language), np.random.default_rng(0)
    shapes = native.flatten(models.abstract_params(module, LENGTHS))
    params = native.unflatten({name: rng.normal(0, 0.3, leaf.shape).astype(np.float32) for name, leaf in shapes})
    path = tmp_path_factory.mktemp("model") / "export"
    return str(export.export(path, module, params, vocabulary, feature_lengths=LENGTHS))


def test_what_is_said_twice_is_the_same():
    defaults = {field.name: field.default for field in dataclasses.fields(Decoding)}
    assert {
        name: defaults[name] for name in inference_verbs._decoding_defaults()
    } == inference_verbs._decoding_defaults()
    assert set(inference_verbs._DECODING) == set(defaults) - {"beam_form"}
    assert set(inference_verbs._SUBMISSIONS) == set(submissions.FORMS)
    assert inference_verbs.FORMATS == exporting.FORMATS and inference_verbs.PLATFORMS == stablehlo.PLATFORMS


def test_a_challenge_from_questions_to_submission(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for i in (1, 2):
        data = io.BytesIO()
        Image.fromarray(np.full((9, 9, 3), 90 * i, np.uint8)).save(data, "jpeg")
        (tmp_path / "images" / f"COCO_val2014_{i:012d}.jpg").write_bytes(data.getvalue())
    rows = [{"question_id": 10 * i, "image_id": i, "question": f"q{i}"} for i in (2, 1, 3)]
    (tmp_path / "q.json").write_text(json.dumps({"data_subtype": "val2014", "questions": rows}))
    words = [f"--checkpoint={model}", "--questions=q.json", "--images=images", "--prompt=ask {question} <extra_id_0>"]
    assert cli.main(["infer", *words, "--to=out.json", "--submission=vqav2", "--batch_size=8", "--num_beams=2"]) == 0
    said = capsys.readouterr().out
    assert "2 answers in out.jsonl" in said and "1 without an answer: image missing" in said
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [20, 10, 30] and lines[1]["prompt"] == "ask q1 <extra_id_0>"
    answers = [line.get("prediction", "") for line in lines]
    submission = json.loads((tmp_path / "out.json").read_text())
    assert submission == [{"question_id": i, "answer": a} for i, a in zip((20, 10, 30), answers, strict=True)]
    summary = json.loads((tmp_path / "out.jsonl.summary.json").read_text())
    assert summary["errors"] == {"image missing": 1} == summary["without answer"]
    assert summary["job"]["decoding"]["num_beams"] == 2
    assert cli.main(["infer", *words, "--to=out.json", "--submission=vqav2", "--batch_size=8", "--seed=4"]) == 1
    assert "is not of this very job" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        (["--images=."], "--images needs --prompt"),
        ([], "nothing is asked"),
        (["--shards=x", "--images=y", "--prompt=z"], "leave --images and --questions out"),
        (["--shards=x"], "--shards needs --prompt"),
        (["--images=.", "--prompt=x", "--submission=vqav2"], "give --questions=FILE"),
        (["--images=.", "--prompt=x", "--batch_size=0"], "expected a number from 1 on, got '0'"),
        (["--images=.", "--prompt=x", "--early_stopping=maybe"], "expected never, true or false"),
        (["--submission=vqa"], "invalid choice: 'vqa'"),
        (["--num_beems=2"], "Nearest: '--num_beams'"),
    ],
)
def test_mistyped_words_of_infer(words, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["infer", "--checkpoint=x", "--to=y.jsonl", *words])
    assert stopped.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        (["infer", "--images=none", "--prompt=x", "--to=o"], "No folder 'none'"),
        (["infer", "--questions=none", "--to=o"], "No file 'none'"),
        (["infer", "--questions=none", "--to=o", "--temperature=1", "--num_beams=2"], "beams are not drawn"),
        (["export", "--to=o", "--format=stablehlo", "--platforms=cpu,vpu"], "Platform 'vpu' is not known"),
        (["export", "--to=o", "--metrics=none"], "No file 'none': `paligax eval` writes results.json"),
        (["export", "--to=."], "would be overwritten"),
    ],
)
def test_what_goes_wrong_is_one_message(words, said, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert cli.main([words[0], f"--checkpoint={model}", *words[1:]]) == 1
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_export_says_where(model, tmp_path, capsys):
    assert (
        cli.main(["export", f"--checkpoint={model}", f"--to={tmp_path}/half", "--dtype=bfloat16", "--name=Half"]) == 0
    )
    assert capsys.readouterr().out.splitlines()[-1] == f"Exported to {tmp_path}/half"
    assert (tmp_path / "half" / "README.md").read_text().startswith("# Half\n")
