import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from paligax.interop import native


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    return {
        "vision": {
            "blocks": {"kernel": rng.normal(size=(2, 3, 4)).astype(np.float32)},
            "bias": np.zeros(4, np.float32),
        },
        "head": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3),
        "count": np.asarray(7, np.int32),
        "turned": np.arange(6.0, dtype=np.float32).reshape(2, 3).T,
    }


def test_what_was_saved_comes_back_bit_for_bit(params, tmp_path):
    file = tmp_path / "model.safetensors"
    assert native.save(file, params) == file.stat().st_size
    loaded = native.load(file)
    assert set(loaded) == set(params) and set(loaded["vision"]) == {"blocks", "bias"}
    for (name, want), (other, got) in zip(native.flatten(params), native.flatten(loaded), strict=True):
        assert name == other and got.shape == want.shape and got.dtype == want.dtype
        np.testing.assert_array_equal(np.asarray(got), np.asarray(want))
    assert loaded["head"].dtype == ml_dtypes.bfloat16 and loaded["count"].shape == ()


def test_other_tools_read_it(params, tmp_path):
    from safetensors import safe_open

    native.save(tmp_path / "model.safetensors", params, {"origin": "test"})
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "np", "origin": "test"}
        assert sorted(file.keys()) == ["count", "head", "turned", "vision/bias", "vision/blocks/kernel"]
        np.testing.assert_array_equal(file.get_tensor("turned"), params["turned"])


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_a_file_cut_short_is_refused(params, tmp_path, kept):
    file = tmp_path / "model.safetensors"
    native.save(file, params)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match="cut short|can't be read"):
        native.load(file)


def test_foreign_and_missing_files_are_refused(tmp_path):
    (tmp_path / "a").write_bytes((20).to_bytes(8, "little") + b"this is no header at all, not in the least")
    with pytest.raises(ValueError, match="no safetensors file: its header"):
        native.load(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="copied completely"):
        native.load(tmp_path / "b")


def test_keys_that_would_not_come_back_are_refused():
    for params in ({"a/b": np.zeros(1)}, {"a": {}}, {"": np.zeros(1)}):
        with pytest.raises(ValueError, match="rename|remove"):
            dict(native.flatten(params))


def test_check_lists_every_difference(params):
    native.check(params, params)
    wrong = {**params, "count": np.float32(7), "turned": np.zeros((2, 3), np.float32)}
    wrong["vision"] = {"blocks": {"kernal": params["vision"]["blocks"]["kernel"]}, "bias": params["vision"]["bias"]}
    with pytest.raises(ValueError) as error:
        native.check(wrong, params, "The file")
    message = str(error.value)
    assert "The file don't fit" in message and "in 4 places" in message
    assert "missing vision/blocks/kernel (2, 3, 4) (there is vision/blocks/kernal)" in message
    assert "unknown vision/blocks/kernal" in message
    assert "turned has shape (2, 3), the model expects (3, 2)" in message
    assert "count has dtype float32, the model expects int32" in message
