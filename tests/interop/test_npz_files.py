import io
import zipfile

import ml_dtypes
import numpy as np
import pytest

from paligax.interop import npz_files

ARRAYS = {
    "params/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.asarray([1.5, -2], ml_dtypes.bfloat16),
    "turned": np.asfortranarray(np.arange(12, dtype=np.float64).reshape(3, 4)),
    "none": np.zeros((0, 3), np.float32),
    "scalar": np.asarray(7, np.int32),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path, save):
    save(tmp_path / "x.npz", **ARRAYS)
    found = npz_files.open_archive(tmp_path / "x.npz")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(np.asarray(found[name]), array)
    assert isinstance(found["params/kernel"], np.ndarray) == (save is np.savez)  # mapped, or unpacked when asked


def test_what_is_written_is_numpys_own_format(tmp_path):
    shapes = {name: (array.shape, array.dtype) for name, array in ARRAYS.items()}
    size = npz_files.write(tmp_path / "x.npz", shapes, ARRAYS.__getitem__)
    assert size == (tmp_path / "x.npz").stat().st_size
    with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        assert archive["half"].dtype.str == "|V2"
        np.testing.assert_array_equal(archive["half"].view(ml_dtypes.bfloat16), ARRAYS["half"])
        np.testing.assert_array_equal(archive["turned"], ARRAYS["turned"])
    npz_files.write(tmp_path / "again.npz", shapes, ARRAYS.__getitem__)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "x.npz").read_bytes()
    with pytest.raises(ValueError, match="announced as"):
        npz_files.write(tmp_path / "y.npz", {"a": ((2,), np.float32)}, lambda name: np.zeros(3, np.float32))


def member(header: bytes, data: bytes = b"") -> bytes:
    text = header + b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def archive(path, name, data, squeezed=False):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if squeezed else zipfile.ZIP_STORED) as file:
        file.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.txt", b"hello", "is no array"),
        ("x.npy", b"hello, this is text", "damaged"),
        ("x.npy", member(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", b"\0" * 8), "never unpickled"),
        ("x.npy", member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000,), }", b"\0" * 8), "has 136"),
        ("x.npy", member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", b"\0" * 4), "has 132 bytes"),
        ("x.npy", member(b"{'descr': '<f4', 'shape': (2,), }", b"\0" * 8), "damaged"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_allocated(tmp_path, name, data, message):
    with pytest.raises(ValueError, match=message):
        npz_files.open_archive(archive(tmp_path / "x.npz", name, data))


def test_a_pickle_is_never_run(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.asarray([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="never unpickled"):
        npz_files.open_archive(archive(tmp_path / "x.npz", "x.npy", buffer.getvalue()))


def test_a_size_that_no_compression_reaches_is_refused(tmp_path):
    path = archive(tmp_path / "x.npz", "x.npy", b"\0" * 100_000, squeezed=True)
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x01\x02") + 24  # the size in the index
    data[place : place + 4] = (1 << 31).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match="claims 2147483648 bytes"):
        npz_files.open_archive(path)


def test_a_file_cut_short_is_told(tmp_path):
    np.savez(tmp_path / "x.npz", **ARRAYS)
    whole = (tmp_path / "x.npz").read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(ValueError, match="copy it again"):
            npz_files.open_archive(tmp_path / "cut.npz")
    with pytest.raises(FileNotFoundError, match=r"gone\.npz"):
        npz_files.open_archive(tmp_path / "gone.npz")
