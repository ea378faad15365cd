"""The loader's own reading of weights; what it runs: test_stablehlo.py."""

import json

import ml_dtypes
import numpy as np
import pytest

from paligax.inference import programs
from paligax.interop import native

PARAMS = {
    "a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "half": np.ones((3, 1), ml_dtypes.bfloat16)},
    "none": np.zeros((0, 4), np.float32),
    "scalar": np.float32(3.5).reshape(()),
}


def test_weights_are_read_as_they_were_written(tmp_path):
    native.save(tmp_path / "file", PARAMS)
    found = programs.read_safetensors(tmp_path / "file")
    want = dict(native.flatten(PARAMS))
    assert found.keys() == want.keys()
    for name, array in found.items():
        assert array.dtype == want[name].dtype
        np.testing.assert_array_equal(array, want[name])


@pytest.mark.parametrize("size", [0, 5, 30, -1])
def test_a_file_cut_short_is_told(size, tmp_path):
    native.save(tmp_path / "file", PARAMS)
    (tmp_path / "cut").write_bytes((tmp_path / "file").read_bytes()[:size])
    with pytest.raises(ValueError, match="cut short|lies outside the file"):
        programs.read_safetensors(tmp_path / "cut")


def test_what_is_no_export_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="programs.json'. Was the export copied completely"):
        programs.open_programs(tmp_path)
    native.save(tmp_path / "model.safetensors", PARAMS)
    (tmp_path / "programs.json").write_text(json.dumps({"format_version": 2}))
    with pytest.raises(ValueError, match="is of version 2; this loader reads version 1"):
        programs.open_programs(tmp_path)
    (tmp_path / "programs.json").write_text(json.dumps({"format_version": 1, "platforms": ["tpu"]}))
    with pytest.raises(ValueError, match="has programs for tpu; the devices here are cpu"):
        programs.open_programs(tmp_path)
