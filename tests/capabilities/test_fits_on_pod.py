"""The paper's recipes fit the paper's machines, compiled for them by the TPU compiler, which needs no TPU."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("libtpu"), reason="needs the TPU compiler: pip install 'paligax[plan]'"
)

ROOT = pathlib.Path(__file__).parents[2]


def plan(experiment, topology, to, *words):
    """(exit code, figures) of the command, in a process of its own: it must load libtpu first."""
    command = [sys.executable, "-m", "paligax", "plan", f"--gin_file=experiments/{experiment}.gin"]
    command += [f"--topology={topology}", f"--json={to}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    assert done.returncode in (0, 3), done.stdout[-2000:] + done.stderr[-4000:]
    assert "WARNING" not in done.stderr, done.stderr[:2000]
    return done.returncode, json.loads(to.read_text())


@pytest.mark.long
@pytest.mark.parametrize(
    "experiment, topology, words",
    [
        ("pali_3b", "v4:8x8x16", ()),
        ("pali_15b", "v4:8x8x16", ()),
        ("pali_17b", "v4:8x8x16", ()),
        ("pali_17b_high_res", "v4:8x8x8", ()),
        # Fine-tuning on one chip, all of it trained.
        ("pali_3b", "v5p:1x1x1", ("--gin.BATCH_SIZE=32", "--gin.Trainer.treatments=(('otherwise', @Trained()),)")),
    ],
)
def test_the_recipes_fit(experiment, topology, words, tmp_path):
    code, figures = plan(experiment, topology, tmp_path / "plan.json", *words)
    memory = figures["memory_gib_per_device"]
    assert (code, figures["fits"]) == (0, True)
    assert 0 < memory["arguments"] < memory["peak"] <= memory["capacity"]
    seconds = figures["step_seconds"]
    assert 0 < seconds["roofline"] and seconds["expected"] == max(seconds["compiler"], seconds["collectives"])
    assert seconds["worst"] == pytest.approx(seconds["compiler"] + seconds["collectives"])
    assert figures["model_flops_per_step"] < figures["hardware_flops_per_step"] * 1.001
    assert 0.1 < figures["mfu"]["expected"] < 0.9


@pytest.mark.slow
def test_a_few_layers_fit_a_small_slice_and_more_of_them_do_not(tmp_path):
    """Two layers a stack of PaLI-3B: the same program in little, and what is said where there is no room."""
    few = ("--gin.ViT.variant.depth=2", "--gin.MT5.variant.encoder_depth=2", "--gin.MT5.variant.decoder_depth=2")
    code, figures = plan("pali_3b", "v5e:2x2", tmp_path / "fits.json", *few, "--gin.BATCH_SIZE=64")
    assert (code, figures["devices"], figures["device_kind"]) == (0, 4, "TPU v5 lite")
    assert 0 < figures["mfu"]["expected"] < 1 and figures["memory_gib_per_device"]["capacity"] == 16
    code, figures = plan("pali_3b", "v5e:2x2", tmp_path / "not.json", *few, "--gin.BATCH_SIZE=8192")
    assert (code, figures["fits"], figures["step_seconds"]["expected"]) == (3, False, None)
    memory = figures["memory_gib_per_device"]
    assert memory["peak"] > memory["capacity"] and "num_microbatches=2" in " ".join(figures["notes"])
