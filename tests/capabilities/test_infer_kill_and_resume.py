"""`paligax infer` killed with -9 and started again writes the very bytes of a job that nobody stopped; so do several
processes."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from paligax import models
from paligax.inference import export
from paligax.interop import native
from paligax.vocabulary import ByteVocabulary

ROOT = pathlib.Path(__file__).parents[2]
LENGTHS = {"image": 16, "inputs": 32, "targets": 12}
QUESTIONS = 1600


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model and questions, some about images that are broken or not there."""
    from PIL import Image

    place = tmp_path_factory.mktemp("infer")
    vocabulary = ByteVocabulary(extra_ids=8)
    vision = models.ViT(width=16, depth=1, mlp_dim=16, num_heads=2, patch_size=8)
    language = models.MT5(16, 16, 1, 1, num_heads=2, head_dim=8, vocab_size=vocabulary.size, num_buckets=8)
    module, rng = models.PaLI(vision=vision, language=language), np.random.default_rng(0)
    shapes = native.flatten(models.abstract_params(module, LENGTHS))
    params = native.unflatten({name: rng.normal(0, 0.4, leaf.shape).astype(np.float32) for name, leaf in shapes})
    export.export(place / "model", module, params, vocabulary, feature_lengths=LENGTHS)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(place / f"{i}.png")
    (place / "7.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    lines = [{"id": i, "image": f"{i % 21}.png", "question": f"q{i}"} for i in range(QUESTIONS)]
    (place / "q.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return place


def start(place, to, devices=1, **environment):
    words = [f"--checkpoint={place}/model", f"--questions={place}/q.jsonl", f"--images={place}", f"--to={to}"]
    words += ["--prompt=ask {question} <extra_id_0>", "--batch_size=8", "--temperature=0.9", "--seed=5"]
    flags = f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-m", "paligax", "infer", *words]
    return subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said[-3000:]
    return said


@pytest.fixture(scope="module")
def whole(place):
    said = finish(start(place, place / "whole.jsonl"))
    text = (place / "whole.jsonl").read_bytes()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["id"] for line in lines] == list(range(QUESTIONS))
    errors = [line["error"] for line in lines if "error" in line]
    assert len(errors) == errors.count("broken image") + errors.count("image missing") == 76 + 76
    assert "76 without an answer: broken image" in said and "76 without an answer: image missing" in said
    assert len({line.get("prediction") for line in lines}) > 100
    return text


@pytest.mark.slow
@pytest.mark.parametrize("kills", [(300,), pytest.param((8, 200, 700), marks=pytest.mark.slow)])
def test_killed_it_ends_with_the_same_bytes(place, whole, kills):
    """``kills``: at how many lines since the last start."""
    to = place / f"killed {len(kills)}.jsonl"
    for wanted in kills:
        process, written = start(place, to), 0
        while written < wanted and process.poll() is None:
            time.sleep(0.002)
            with contextlib.suppress(FileNotFoundError):  # while parts are joined
                written = pathlib.Path(f"{to}.unfinished/part-00000").read_bytes().count(b"\n")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not to.exists() and written >= wanted, process.communicate()
    said = finish(start(place, to))
    done = int(said.split(f" of {QUESTIONS} answers are there")[0].splitlines()[-1])
    assert sum(kills) - 8 * len(kills) <= done <= QUESTIONS and done % 8 == 0
    assert to.read_bytes() == whole and not pathlib.Path(f"{to}.unfinished").exists()


@pytest.mark.slow
def test_two_processes_write_the_answers_of_one(place, whole):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    common = {"PALIGAX_COORDINATOR": address, "PALIGAX_NUM_PROCESSES": "2"}
    started = [start(place, place / "two.jsonl", **common, PALIGAX_PROCESS_ID=str(i)) for i in range(2)]
    said = [finish(process) for process in started]
    assert "answers in" in said[0] and "answers in" not in said[1]
    assert (place / "two.jsonl").read_bytes() == whole
