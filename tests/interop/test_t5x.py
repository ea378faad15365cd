"""T5X's directories: where their arrays lie is never believed, and each is read when asked."""

import shutil

import ml_dtypes
import numpy as np
import pytest
from flax import serialization

import paligax
from paligax import models
from paligax.interop import convert, native, t5x
from paligax.interop.foreign import open_foreign

MT5 = models.MT5(18, 22, 2, 3, num_heads=3, head_dim=4, vocab_size=40, num_buckets=8)


def tower(dtype=np.float32):
    rng = np.random.default_rng(0)
    shapes = native.flatten(models.abstract_params(MT5, {}))
    return {name: rng.normal(size=leaf.shape).astype(dtype) for name, leaf in shapes}


@pytest.fixture
def directory(tmp_path):
    leaves = tower()
    convert.write(convert.Leaves(MT5, leaves, leaves.__getitem__), tmp_path / "checkpoint_7", "t5x")
    (tmp_path / "checkpoint_7" / "architecture.json").unlink()  # T5X writes none
    return tmp_path / "checkpoint_7"


def equal(loaded, leaves):
    found = dict(native.flatten(loaded.params))
    assert found.keys() == leaves.keys()
    for name, leaf in leaves.items():
        np.testing.assert_array_equal(found[name], leaf, err_msg=name)


def specs(directory, change):
    """Rewrites every spec of an array in the checkpoint's file."""
    tree = serialization.msgpack_restore((directory / "checkpoint").read_bytes())

    def walk(node):
        if "kvstore" in node:
            change(node)
        else:
            for value in node.values():
                if isinstance(value, dict):
                    walk(value)

    walk(tree["optimizer"]["target"])
    (directory / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))


def test_a_step_or_the_run_around_it_is_opened(directory, tmp_path):
    for path in (directory, tmp_path):
        loaded = paligax.load(path)
        assert loaded.module == MT5
        equal(loaded, tower())


def test_names_are_t5xs(directory):
    assert (directory / "target.encoder.layers_1.attention.query.kernel" / ".zarray").is_file()
    assert (directory / "target.decoder.logits_dense.kernel" / "0.0").is_file()
    tree = serialization.msgpack_restore((directory / "checkpoint").read_bytes())
    assert tree["version"] == 3 and tree["optimizer"]["state"]["step"] == 0
    spec = tree["optimizer"]["target"]["decoder"]["relpos_bias"]["rel_embedding"]
    assert spec["kvstore"] == {"driver": "file", "path": "target.decoder.relpos_bias.rel_embedding"}
    assert spec["metadata"]["shape"] == [3, 8] and spec["dtype"] == "float32"


def test_where_they_were_saved_does_not_matter(directory):
    """Google's files name a bucket, another driver, and a slash at the end."""

    def moved(spec):
        path = spec["kvstore"]["path"]
        spec["kvstore"] = {"driver": "gfile", "bucket": "x", "path": f"/far/away/{path}/"}

    specs(directory, moved)
    equal(paligax.load(directory), tower())


@pytest.mark.parametrize("path", ["..", "/", "a/..", ""])
def test_no_path_leads_out_of_the_directory(directory, path):
    specs(directory, lambda spec: spec["kvstore"].update(path=path))
    with pytest.raises(ValueError, match="refused"):
        open_foreign(directory)


def test_a_link_out_of_the_directory_is_not_followed(directory, tmp_path):
    place = directory / "target.decoder.decoder_norm.scale"
    shutil.move(place, tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="has no zarr array"):
        open_foreign(directory)


def test_what_differs_is_told(directory):
    specs(directory, lambda spec: spec["metadata"].update(shape=[1, 2]))
    with pytest.raises(ValueError, match=r"checkpoint says \[1, 2\]"):
        open_foreign(directory)


def test_what_is_missing_is_told(directory):
    shutil.rmtree(directory / "target.token_embedder.embedding")
    with pytest.raises(ValueError, match="target.token_embedder.embedding.*copied completely"):
        open_foreign(directory)


def test_small_leaves_lie_in_the_file_itself(tmp_path):
    """A plain msgpack file of the same tree, in bfloat16."""
    leaves = tower(ml_dtypes.bfloat16)
    made = {}
    convert.write(convert.Leaves(MT5, leaves, leaves.__getitem__), tmp_path / "step", "t5x")
    for name, lazy in t5x.read_directory(tmp_path / "step").items():
        made[name] = np.asarray(lazy)
    (tmp_path / "t5.msgpack").write_bytes(serialization.msgpack_serialize({"target": native.unflatten(made)}))
    loaded = paligax.load(tmp_path / "t5.msgpack")
    equal(loaded, leaves)
    assert loaded.params["token_embedder"].dtype == ml_dtypes.bfloat16


def test_logits_from_the_embedding_are_scaled(tmp_path):
    leaves = tower()
    convert.write(convert.Leaves(MT5, leaves, leaves.__getitem__), tmp_path / "step", "t5x")
    made = {name: np.asarray(lazy) for name, lazy in t5x.read_directory(tmp_path / "step").items()}
    del made["decoder/logits_dense/kernel"]
    (tmp_path / "t5.msgpack").write_bytes(serialization.msgpack_serialize({"target": native.unflatten(made)}))
    loaded = paligax.load(tmp_path / "t5.msgpack")
    assert loaded.module.scale_logits
    np.testing.assert_array_equal(loaded.params["logits"]["kernel"], leaves["token_embedder"].T)
