import ml_dtypes
import numpy as np
import pytest
from flax import serialization

from paligax.interop import msgpack_files

TREE = {
    "a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "half": np.ones((2,), ml_dtypes.bfloat16)},
    "scalar": np.float32(2.5),
    "empty": np.zeros((0, 3), np.int8),
    "numbers": {"small": 3, "negative": -5, "large": 2**40, "real": 1.5, "none": None, "yes": True, "z": 1 + 2j},
    "text": "µ" * 40,
}


def write(path, tree):
    path.write_bytes(serialization.msgpack_serialize(tree))
    return path


def test_what_flax_writes_is_read_without_copying_it(tmp_path):
    found = msgpack_files.read_tree(write(tmp_path / "x.msgpack", TREE))
    np.testing.assert_array_equal(found["a"]["kernel"], TREE["a"]["kernel"])
    assert found["a"]["half"].dtype == ml_dtypes.bfloat16 and found["a"]["half"].tolist() == [1, 1]
    assert found["scalar"].shape == () and found["scalar"] == 2.5 and found["empty"].shape == (0, 3)
    assert found["numbers"] == TREE["numbers"] and found["text"] == TREE["text"]
    base = found["a"]["kernel"]
    while not isinstance(base, np.memmap):
        base = base.base
    assert not found["a"]["kernel"].flags.writeable


def test_arrays_in_chunks_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)
    array = np.arange(100, dtype=np.float32).reshape(10, 10)
    (tmp_path / "x.msgpack").write_bytes(serialization.to_bytes({"w": array}))
    found = msgpack_files.read_tree(tmp_path / "x.msgpack")["w"]
    assert found.shape == (10, 10) and found.dtype == np.float32
    np.testing.assert_array_equal(np.asarray(found), array)


def test_a_file_cut_anywhere_is_told_and_never_read_past_its_end(tmp_path):
    whole = serialization.msgpack_serialize(TREE)
    path = tmp_path / "cut.msgpack"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="copy it again"):
            msgpack_files.read_tree(path)


def test_flipped_bytes_give_a_tree_or_one_clear_error(tmp_path):
    whole, rng, path = serialization.msgpack_serialize(TREE), np.random.default_rng(0), tmp_path / "bad.msgpack"
    told = 0
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            msgpack_files.read_tree(path)
        except ValueError as error:
            told += "copy it again" in str(error)
    assert told > 200


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut short"),
        (b"\x03", "holds a int"),
        (b"\xdf\xff\xff\xff\xff", "announces 4294967295 items"),
        (b"\xc1", "begins no value"),
        (b"\x81\xa1x" * 200 + b"\x00", "nested more than 100 deep"),
        (b"\x81\xa1x\xc7\x01\x09\x00", "extension type 9"),
        (b"\x82\xa1x\x01\xa1x\x02", "there twice"),
        (b"\x80\x00", "left over"),
        (b"\x81\xa1x\xc7\x0a\x01\x93\x91\x02\xa2f4\xc4\x02\x00\x00", "lies in 2 bytes"),
        (b"\x81\xa1x\xc7\x09\x01\x93\x91\x01\xa1O\xc4\x01\x00\x00", "can't be"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, data, message):
    (tmp_path / "x.msgpack").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        msgpack_files.read_tree(tmp_path / "x.msgpack")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.msgpack"):
        msgpack_files.read_tree(tmp_path / "gone.msgpack")
