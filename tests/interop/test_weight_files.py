import json
import resource

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from paligax.interop import weight_files

RNG = np.random.default_rng(0)
ARRAYS = {
    "encoder.weight": RNG.normal(size=(3, 5)).astype(np.float32),
    "encoder.bias": RNG.normal(size=(5,)).astype(ml_dtypes.bfloat16),
    "scale": np.array(2.5, np.float32),
    "ids": np.arange(7, dtype=np.int64),
    "none": np.zeros((0, 4), np.float16),
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    shapes = {name: (array.shape, array.dtype) for name, array in ARRAYS.items()}
    assert weight_files.write(path, shapes, ARRAYS.__getitem__) == path.stat().st_size
    return path


def same(tensors):
    assert set(tensors) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)


def test_the_library_reads_what_we_write(file):
    same(safetensors.numpy.load_file(file))


def test_we_read_what_the_library_writes(tmp_path):
    safetensors.numpy.save_file(ARRAYS, tmp_path / "x.safetensors", {"format": "pt"})
    same(weight_files.Tensors(tmp_path / "x.safetensors"))


def test_tensors_are_read_only_views_of_the_file(file):
    weight = weight_files.Tensors(file)["encoder.weight"]
    assert not weight.flags.writeable and not weight.flags.owndata
    with pytest.raises(KeyError, match="nearest is encoder.weight"):
        weight_files.Tensors(file)["encoder.weights"]


def test_opening_and_slicing_a_large_file_takes_no_memory(tmp_path):
    path, rows = tmp_path / "large.safetensors", 1 << 18
    weight_files.write(path, {"table": ((rows, 256), np.float32)}, lambda name: np.ones((rows, 256), np.float32))

    def anonymous():
        text = open("/proc/self/status").read()
        return int(text.split("RssAnon:")[1].split()[0]) << 10

    before = anonymous()
    tensors = weight_files.Tensors(path)
    assert tensors["table"][:, 0].sum() == rows
    assert anonymous() - before < 16 << 20 < path.stat().st_size // 4
    assert resource.getpagesize() <= 1 << 16


def index(directory, weight_map):
    path = directory / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def test_several_files_behind_an_index_are_one(tmp_path):
    names = list(ARRAYS)
    weight_map = {}
    for number, part in enumerate((names[:2], names[2:])):
        name = f"model-{number}-of-2.safetensors"
        safetensors.numpy.save_file({n: ARRAYS[n] for n in part}, tmp_path / name)
        weight_map |= dict.fromkeys(part, name)
    same(weight_files.Tensors(index(tmp_path, weight_map)))


@pytest.mark.parametrize("place", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "", ".", ".."])
def test_an_index_cannot_name_paths_outside_its_directory(tmp_path, file, place):
    with pytest.raises(ValueError, match="not a file beside it"):
        weight_files.Tensors(index(tmp_path, {"scale": place}))


def test_an_index_that_lies_is_told(tmp_path, file):
    with pytest.raises(ValueError, match="holds 'weight'; it does not"):
        weight_files.Tensors(index(tmp_path, {"weight": file.name}))
    with pytest.raises(FileNotFoundError, match="missing.safetensors"):
        weight_files.Tensors(index(tmp_path, {"weight": "missing.safetensors"}))
    path = tmp_path / "model.safetensors.index.json"
    for text in ("", "[]", "{}", '{"weight_map": 3}', "\x00"):
        path.write_text(text)
        with pytest.raises(ValueError, match="no index"):
            weight_files.Tensors(path)


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -1])
def test_a_file_cut_short_is_told(file, kept):
    data = file.read_bytes()
    file.write_bytes(data[:kept])
    with pytest.raises(ValueError, match="cut short|can't be read"):
        weight_files.Tensors(file)


def test_a_file_that_is_too_long_is_told(file):
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(ValueError, match="too long"):
        weight_files.Tensors(file)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F128", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0]},
        {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]},
        {"shape": [1]},
        3,
    ],
)
def test_headers_that_lie_are_refused(tmp_path, entry):
    text = json.dumps({"w": entry}).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(ValueError, match="x.safetensors"):
        weight_files.Tensors(path)
    path.write_bytes((1 << 62).to_bytes(8, "little") + text)
    with pytest.raises(ValueError, match="cut short or no safetensors"):
        weight_files.Tensors(path)


def test_what_was_not_announced_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"float64\[2\]; announced as .*float32.*\[2\]"):
        weight_files.write(tmp_path / "x", {"w": ((2,), np.float32)}, lambda name: np.zeros(2))
    with pytest.raises(ValueError, match="complex64"):
        weight_files.write(tmp_path / "x", {"w": ((2,), np.complex64)}, lambda name: np.zeros(2))
