"""1, 2 and 4 processes evaluate alike: each reads its own part of every batch, every example counts once, and results,
controls, intervals, problems and what is shown are the same."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from tests.inference import held_out_data

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEVICES = 4  # of all processes together

pytestmark = pytest.mark.slow

WORKER = """
import collections, dataclasses, json, sys
import jax, numpy as np
if int(sys.argv[2]) > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
from paligax import models
from paligax.inference import evaluation
from paligax.training.partitioning import Partitioner
from tests.inference import held_out_data

read = collections.defaultdict(list)
class Counting(held_out_data.Data):
    def evaluation(self, task, *args):
        for batch in super().evaluation(task, *args):
            read[name].extend(f"{task} {e['id']} {e.get('prompt')}" for e in batch.examples if e)
            yield batch
data = Counting(**held_out_data.data(sys.argv[4]).__dict__)
vision = models.ViT(width=16, depth=1, mlp_dim=32, num_heads=2, patch_size=8)
language = models.MT5(16, 32, 1, 1, num_heads=2, head_dim=8, vocab_size=268, num_buckets=8)
module = models.PaLI(vision=vision, language=language)
rng = np.random.default_rng(0)
shapes = models.abstract_params(module, data.feature_lengths)
params = jax.tree.map(lambda leaf: rng.normal(0, 1, leaf.shape).astype(np.float32), shapes)
names = tuple(str(held_out_data.FIRST + i) for i in range(11))
common = dict(num_shown=3, resamples=50, seed=1, decoding=evaluation.Decoding(max_length=6))
found = {}
for name, options in {
    "generated": dict(tasks=("ocr", "span_corruption"), num_examples=19),
    "scored": dict(tasks=("vqa",), candidates={"vqa": names}),
    "cut": dict(tasks=("ocr",), num_examples=8, partitioner=Partitioner(fsdp=2, tensor=2)),
}.items():
    held = evaluation.Evaluator(data, **common, **options).run(module, params)
    found[name] = {
        "results": held.results,
        "counts": held.counts,
        "problems": held.problems,
        "intervals": {t: {n: dataclasses.astuple(i) for n, i in of.items()} for t, of in held.intervals.items()},
        "ids": {t: [a.shown.id for a in answers] for t, answers in held.answers.items()},
        "said": {t: [[a.shown.prediction, a.shown.blind_prediction] for a in of] for t, of in held.answers.items()},
        "shown": {
            t: [[e.id, e.prompt, e.worst, None if e.image is None else int(e.image.sum())] for e in examples]
            for t, examples in held.examples.items()
        },
    }
print(json.dumps({"found": found, "read": read}))
"""


def run(directory: str, processes: int) -> list[dict]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    flags = f"--xla_force_host_platform_device_count={DEVICES // processes}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, address, str(processes), str(i), directory],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            cwd=ROOT,
        )
        for i in range(processes)
    ]
    ended = [process.communicate(timeout=400) for process in started]
    assert all(process.returncode == 0 for process in started), "\n".join(error[-3000:] for _, error in ended)
    return [json.loads(output.splitlines()[-1]) for output, _ in ended]


def test_one_two_and_four_processes_evaluate_alike(tmp_path):
    held_out_data.write(str(tmp_path))
    (alone,) = run(str(tmp_path), 1)
    found = alone["found"]
    assert found["generated"]["counts"] == {"ocr": 11, "span_corruption": 5}
    assert found["generated"]["problems"]["ocr"]["skipped"] == {"broken image": 1}
    assert found["scored"]["counts"] == {"vqa": 21}
    assert any(len(set(pair)) == 2 for pair in found["scored"]["said"]["vqa"])  # the control is no copy
    for ids in found["generated"]["ids"].values():
        assert len(ids) == len(set(ids))
    for processes in (2, 4):
        several = run(str(tmp_path), processes)
        for one in several:
            assert one["found"] == found
        for name, lines in alone["read"].items():
            # Four processes of one device: two of them hold halves of the same rows' computation.
            readers = 2 if name == "cut" and processes == 4 else 1
            assert sorted(line for one in several for line in one["read"][name]) == sorted(readers * lines), name
            assert min(len(one["read"][name]) for one in several) >= readers * len(lines) // processes // 2, name
