import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from paligax import cli, configuration
from paligax.batch import LabelBatch
from paligax.training import flops, planning
from paligax.training.partitioning import Partitioner
from paligax.training.planning import planner
from paligax.training.planning.planner import Memory
from tests.tiny_run import GIN
from tests.training import toy

ROOT = pathlib.Path(__file__).parents[3]
LENGTHS = {"image": toy.RESOLUTION, "inputs": toy.INPUTS, "targets": toy.TARGETS}


@dataclasses.dataclass(frozen=True)
class Lengths(toy.Data):
    """A job's data that refuses to be opened."""

    feature_lengths: dict = dataclasses.field(default_factory=lambda: LENGTHS)

    def stream(self, *_):
        raise AssertionError("planning opens no data")


def job(**overrides):
    return toy.trainer(data=Lengths(), **overrides)


@pytest.fixture(scope="module")
def found():
    return planning.plan(job(partitioner=Partitioner(fsdp=8, shrink=True)))


@pytest.mark.slow
def test_figures_of_the_devices_here(found):
    program = planner.prepare(job(partitioner=Partitioner(fsdp=8, shrink=True)), jax.devices())
    figures = found.as_dict()
    assert figures["devices"] == jax.device_count() and figures["topology"] is None
    assert figures["parameters"]["total"] == figures["parameters"]["trainable"]
    projection = 16 * 16 + 16
    parts = figures["parameters"]
    assert parts["total"] == parts["vision"] + parts["language"] + projection
    assert figures["model_flops_per_step"] == flops.model_flops(program) <= figures["hardware_flops_per_step"]
    assert figures["fits"] and figures["memory_gib_per_device"]["peak"] < figures["memory_gib_per_device"]["capacity"]
    assert set(figures["step_seconds"].values()) == {None} and set(figures["mfu"].values()) == {None}
    assert figures["examples_per_second"] is None and figures["compile_seconds"] > 0
    if jax.device_count() == 8:
        assert figures["mesh"] == {"data": 1, "fsdp": 8, "tensor": 1}
        assert figures["collective_gib_per_device"] > 0
    json.dumps(figures, allow_nan=False)


@pytest.mark.slow
def test_the_table_says_what_fits(found):
    text = planning.table(found)
    assert "fits" in text and "NOT FIT" not in text and f"{found.parameters['total']:,}" in text
    tight = dataclasses.replace(found, fits=False, notes=("The step does not fit by 1.0 GiB",))
    assert "DOES NOT FIT" in planning.table(tight) and "note: The step does not fit by 1.0 GiB" in planning.table(tight)


def test_labels_have_their_own_batch():
    data = dataclasses.replace(Lengths(), feature_lengths={"image": 32, "labels": 7})
    batch = planner.abstract_batch(data)
    assert isinstance(batch, LabelBatch) and batch.labels.shape == (8, 7)


@pytest.mark.slow
def test_recomputation_is_in_the_hardware_flops():
    kept = flops.hardware_flops(toy.program(toy.trainer()))
    full = flops.hardware_flops(toy.program(toy.trainer(model=toy.pali(vision=toy.vit(remat="full"), remat="full"))))
    assert kept == flops.model_flops(toy.program(toy.trainer()))
    assert 1.1 * kept < full < 1.4 * kept


MESSAGE = (
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 52.61G of 30.75G "
    "hbm. Exceeded hbm capacity by 21.86G."
)


@pytest.mark.slow
def test_what_does_not_fit_says_by_how_much_and_what_to_try(monkeypatch, tmp_path, capsys):
    class Lowered:
        def compile(self):
            raise RuntimeError(MESSAGE)

    monkeypatch.setattr(planner.step, "lower_step", lambda program: Lowered())
    found = planning.plan(job(partitioner=Partitioner(fsdp=2, shrink=True)))
    assert not found.fits and found.memory == Memory(None, None, pytest.approx(52.61), pytest.approx(30.75))
    (advice,) = found.notes
    for words in ("by 21.9 GiB", "remat", "num_microbatches=2", "Partitioner.tensor=2"):
        assert words in advice or jax.device_count() == 8 and "num_microbatches" in words
    (tmp_path / "tiny.gin").write_text(GIN)
    to = tmp_path / "new" / "plan.json"
    assert cli.main(["plan", f"--gin_file={tmp_path}/tiny.gin", f"--json={to}"]) == 3
    assert json.loads(to.read_text())["fits"] is False and "DOES NOT FIT" in capsys.readouterr().out


def test_other_failures_are_not_taken_for_lack_of_memory(monkeypatch):
    class Lowered:
        def compile(self):
            raise RuntimeError("INTERNAL: no")

    monkeypatch.setattr(planner.step, "lower_step", lambda program: Lowered())
    with pytest.raises(RuntimeError, match="INTERNAL"):
        planning.plan(job())


@pytest.mark.slow
def test_the_command_imports_no_tensorflow_and_writes_what_it_prints(tmp_path):
    (tmp_path / "tiny.gin").write_text(GIN)
    code = (
        "import sys; from paligax import cli; "
        "code = cli.main(['plan', '--gin_file=tiny.gin', '--json=plan.json']); "
        "print(code, [m for m in ('tensorflow', 'seqio') if m in sys.modules])"
    )
    own = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=os.environ | own
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr
    figures = json.loads((tmp_path / "plan.json").read_text())
    assert set(figures) >= {
        *("topology", "devices", "device_kind", "parameters", "memory_gib_per_device", "fits", "model_flops_per_step"),
        *("hardware_flops_per_step", "collective_gib_per_device", "step_seconds", "mfu", "examples_per_second"),
        "compile_seconds",
    }
    assert set(figures["step_seconds"]) == {"compiler", "collectives", "roofline", "expected", "worst"}
    assert set(figures["mfu"]) == {"compiler", "roofline", "expected", "worst"}


def test_a_mistyped_topology_is_said(tmp_path, capsys):
    (tmp_path / "tiny.gin").write_text(GIN)
    assert cli.main(["plan", f"--gin_file={tmp_path}/tiny.gin", "--topology=v4:8x8"]) == 1
    assert "3 sides" in capsys.readouterr().err


RECIPES = {
    # total parameters of the paper's sizes, trained ones, batch, pixels, peak of the learning rate
    "pali_3b": (3_076_000_000, False, 4096, 224, 1e-2),
    "pali_15b": (14_770_000_000, False, 4096, 224, 5e-3),
    "pali_17b": (16_730_000_000, False, 4096, 224, 5e-3),
    "pali_17b_high_res": (16_740_000_000, True, 1024, 588, 1e-3),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_papers_recipes(name):
    total, all_trained, batch_size, pixels, peak = RECIPES[name]
    trainer = configuration.parse([f"experiments/{name}.gin"], roots=["Trainer"]).build("Trainer")
    program = planner.prepare(trainer, jax.devices()[:1])
    found = planner._parameters(program)
    assert found["total"] == pytest.approx(total, rel=2e-3)
    assert found["trainable"] == found["total"] - (0 if all_trained else found["vision"])
    assert (trainer.data.batch_size, trainer.data.feature_lengths["image"]) == (batch_size, pixels)
    assert trainer.data.feature_lengths["inputs"] == 128 and trainer.data.feature_lengths["targets"] == 64
    assert float(trainer.optimizer.learning_rate(999)) == pytest.approx(peak)
    assert trainer.train_steps == (10_000 if all_trained else 382_000)
