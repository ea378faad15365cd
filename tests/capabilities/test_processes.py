"""One job on 1, 2 and 4 processes, on several meshes: the same global batches, bit for bit, and the same losses."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import pytest

from paligax.training import run_log
from tasks.mini import build

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 20
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return build.build(str(tmp_path_factory.mktemp("mini")), size=256)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def words(data_dir, run, steps):
    """The quickstart's recipe for all eight tasks, without the classifier before it and the looks on the way."""
    return [
        "train",
        "--gin_file=experiments/quickstart_base.gin",
        f"--gin.DATA_DIR={data_dir}",
        f"--gin.VOCABULARY_PATH={data_dir}/vocabulary.model",
        "--gin.Trainer.initial_sources=()",
        "--gin.look/Evaluator.every_steps=0",
        "--gin.CoolDown.cooldown_steps=1",
        f"--gin.TRAIN_STEPS={steps}",
        "--gin.Trainer.log_every=1",
        f"--model_dir={run}",
        "--accept_config_change",
    ]


def train(run, cache, processes, command, local_devices=1):
    """Runs the command in so many processes; the recorded lines of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={local_devices}"
    files = [run.with_name(f"{run.name}.{i}.jsonl") for i in range(processes)]
    started = []
    for i, file in enumerate(files):
        environment = os.environ | {"XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": str(cache)}
        if processes > 1:
            environment |= {
                "PALIGAX_COORDINATOR": address,
                "PALIGAX_NUM_PROCESSES": str(processes),
                "PALIGAX_PROCESS_ID": str(i),
            }
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "tests.capabilities.recorded_train", str(file), *command],
                cwd=ROOT,
                env=environment,
                stdout=file.with_suffix(".txt").open("w"),
                stderr=subprocess.STDOUT,
            )
        )
    codes = [process.wait(timeout=500) for process in started]
    assert codes == [0] * processes, files[0].with_suffix(".txt").read_text()[-3000:]
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def batches(recorded, steps):
    """step → global row → hash, put together from all processes, which must share no row."""
    together = []
    for lines in zip(*(lines[:steps] for lines in recorded), strict=True):
        rows = {}
        for line in lines:
            assert not rows.keys() & line["rows"].keys(), "read twice"
            rows |= line["rows"]
        together.append(rows)
    return together


def losses(run, start):
    return [row["loss"] for row in run_log.read(run) if "loss" in row and row["step"] > start]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data_dir, cache):
    """(directory with the state after two steps, batches, losses and records read by one process that goes on)."""
    here = tmp_path_factory.mktemp("runs")
    train(here / "start", cache, 1, words(data_dir, here / "start", 2))
    shutil.copytree(here / "start", here / "one")
    recorded = train(here / "one", cache, 1, words(data_dir, here / "one", 2 + STEPS))
    return here / "start", batches(recorded, STEPS), losses(here / "one", 2), recorded[0][STEPS - 1]["read"]


@pytest.mark.parametrize(
    "processes, local_devices, mesh",
    [(2, 1, {}), (4, 1, {}), (2, 2, {"fsdp": 4}), (1, 4, {"fsdp": 2, "tensor": 2})],
    ids=["2 processes", "4 processes", "2 processes of 2 devices, fsdp 4", "1 process, fsdp 2 tensor 2"],
)
def test_the_same_batches_and_losses(processes, local_devices, mesh, alone, data_dir, cache, tmp_path):
    start, expected_batches, expected_losses, read_alone = alone
    run = tmp_path / "run"
    shutil.copytree(start, run)
    command = words(data_dir, run, 2 + STEPS) + [f"--gin.Partitioner.{name}={size}" for name, size in mesh.items()]
    recorded = train(run, cache, processes, command, local_devices)
    assert len(expected_batches[0]) == 32 and batches(recorded, STEPS) == expected_batches
    got = losses(run, 2)
    assert len(got) == len(expected_losses) == STEPS
    print("largest relative difference", max(abs(a / b - 1) for a, b in zip(got, expected_losses, strict=True)))
    assert got == pytest.approx(expected_losses, rel=1e-5)
    if processes > 1:  # each reads its share, and what it reads ahead
        assert all(len(lines[0]["rows"]) == 32 // processes for lines in recorded)
        assert all(lines[STEPS - 1]["read"] < read_alone for lines in recorded)
