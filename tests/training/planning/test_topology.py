import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from paligax.training.planning import topology
from paligax.training.planning.topology import Topology

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.parametrize(
    "text, kind, shape, wrap",
    [
        ("v4:8x8x16", "v4", (8, 8, 16), (True, True, True)),
        ("v5p:2x2x1", "v5p", (2, 2, 1), (False, False, False)),
        ("v5e:16x16", "v5e", (16, 16), (True, True, False)),
        ("v6e:8x16", "v6e", (8, 16), (False, True, False)),
        ("tpu7x:4x4x4", "tpu7x", (4, 4, 4), (True, True, True)),
    ],
)
def test_names_are_read(text, kind, shape, wrap):
    found = Topology.parse(text)
    assert (found.kind, found.shape, found.wrap) == (kind, shape, wrap)


@pytest.mark.parametrize(
    "text, said",
    [
        ("v5:8x8x8", "near: 'v5"),
        ("tpu7:4x4x4", "near: 'tpu7x'"),
        ("h100", "known: v4, v5e, v5p, v6e, tpu7x"),
        ("v4:8x8", "3 sides"),
        ("v5e:4x4x4", "2 sides"),
        ("v4:0x4x4", "at least 1"),
        ("v4:8x8x", "3 sides"),
        ("v4:9999x9999x9999", "at most"),
    ],
)
def test_others_are_refused_with_what_there_is(text, said):
    with pytest.raises(ValueError, match=said):
        Topology.parse(text)


def test_without_the_compiler_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"paligax\[plan\]"):
        Topology.parse("v4:2x2x1").devices()


def test_what_native_code_says_stays_off_the_screen(capfd):
    with topology.quiet():
        os.write(2, b"noise\n")
    os.write(2, b"news\n")
    assert capfd.readouterr().err == "news\n"


DEVICES = """
import json
from paligax.training.planning.topology import Topology
names = {"v4:4x4x4": 1, "v5e:4x4": 2, "v5p:1x1x1": 1, "v6e:4x4": 1, "tpu7x:2x2x1": 1, "v4:3x5x7": 1}
found = {}
for name, slices in names.items():
    try:
        devices = Topology.parse(name).devices(slices)
        found[name] = [len(devices), devices[0].device_kind, len({getattr(d, 'slice_index', 0) for d in devices})]
    except ValueError as error:
        found[name] = str(error)
print(json.dumps(found))
"""


@pytest.mark.skipif(
    not importlib.util.find_spec("libtpu"), reason="needs the TPU compiler: pip install 'paligax[plan]'"
)
def test_slices_of_every_kind():
    own = {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", DEVICES], env=os.environ | own, cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["v4:4x4x4"] == [64, "TPU v4", 1]
    assert found["v5e:4x4"] == [32, "TPU v5 lite", 2]
    assert found["v5p:1x1x1"][0] == 1 and found["v6e:4x4"][0] == 16
    assert found["tpu7x:2x2x1"][:2] == [8, "TPU7x"]
