"""Weights are never held twice: loading an mT5-base takes little more anonymous memory than its file has bytes."""

import json
import subprocess
import sys

import numpy as np
import pytest

from paligax import models
from paligax.interop import hf_layouts, native, weight_files
from paligax.interop.layouts import Layout

LOAD = """
import json, pathlib, re, sys, threading, time

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024

peak, done = 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.005)

thread = threading.Thread(target=watch)
thread.start()
import jax, paligax
loaded = paligax.load(sys.argv[1])
jax.block_until_ready(loaded.params)
done = True
thread.join()
print(json.dumps({"peak": peak, "parameters": sum(leaf.size for leaf in jax.tree.leaves(loaded.params))}))
"""


def write_mt5(directory, name):
    """An mT5 directory of transformers' layout at its full size; returns its file's bytes."""
    module = models.MT5.variant(name)
    config = dict(model_type="mt5", d_model=module.width, d_ff=module.mlp_dim, d_kv=module.head_dim)
    config |= dict(num_heads=module.num_heads, num_layers=module.encoder_depth, vocab_size=module.vocab_size)
    (directory / "config.json").write_text(json.dumps(config))
    leaves = dict(native.flatten(models.abstract_params(module, {})))
    layouts = [Layout(rule, leaves[rule.ours].shape) for rule in hf_layouts.mt5_rules()]
    shapes = {name: (layout.foreign_shape, np.float32) for layout in layouts for name in layout.names}
    pattern = np.random.default_rng(0).normal(size=1 << 20).astype(np.float32)
    make = lambda name: np.resize(pattern, shapes[name][0])  # noqa: E731
    return weight_files.write(directory / "model.safetensors", shapes, make), sum(x.size for x in leaves.values())


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's /proc")
def test_loading_an_mt5_base_takes_no_second_copy(tmp_path):
    size, parameters = write_mt5(tmp_path, "base")
    assert parameters == 582_401_280 and size > 4 * parameters
    found = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        env={"JAX_PLATFORMS": "cpu", "PATH": "", "HOME": str(tmp_path)},
    )
    measured = json.loads(found.stdout.splitlines()[-1])
    print(f"peak of anonymous memory ÷ file: {measured['peak'] / size:.3f}")
    assert measured["parameters"] == parameters
    assert measured["peak"] <= 1.2 * size
