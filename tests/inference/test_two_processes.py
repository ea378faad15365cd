"""Two processes evaluate as one does: each reads half of every batch, and both get the same results."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from tests.inference import held_out_data

ROOT = pathlib.Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

WORKER = """
import json, sys
import jax
if int(sys.argv[2]) > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
from tests.inference import held_out_data
from paligax.inference import evaluation, placement

data = held_out_data.data(sys.argv[4])
read = []
class Counting(type(data)):
    def evaluation(self, *args):
        for batch in super().evaluation(*args):
            read.extend(e["id"] for e in batch.examples if e)
            yield batch
data = Counting(**data.__dict__)
oracle = held_out_data.Oracle()
found = evaluation.Evaluator(data, tasks=("vqa", "span_corruption"), num_shown=3).run(oracle, oracle.params)
shown = {task: [(e.id, e.prompt, e.prediction) for e in examples] for task, examples in found.examples.items()}
print(json.dumps({"results": found.results, "counts": found.counts, "shown": shown, "read": len(read)}))
"""


def run(directory: str, processes: int) -> list[dict]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, address, str(processes), str(i), directory],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        for i in range(processes)
    ]
    ended = [process.communicate(timeout=300) for process in started]
    assert all(process.returncode == 0 for process in started), ended[0][1] + ended[-1][1]
    return [json.loads(output.splitlines()[-1]) for output, _ in ended]


def test_two_processes_give_the_results_of_one_and_read_half_each(tmp_path):
    held_out_data.write(str(tmp_path))
    (alone,) = run(str(tmp_path), 1)
    first, second = run(str(tmp_path), 2)
    assert first["results"] == second["results"] and first["shown"] == second["shown"]
    assert first["counts"] == alone["counts"] and first["shown"] == alone["shown"]
    for task in alone["results"]:
        assert first["results"][task] == alone["results"][task]
    assert first["read"] + second["read"] == alone["read"] and min(first["read"], second["read"]) >= 10
