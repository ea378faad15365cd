import shutil

import jax
import pytest

from paligax.inference import answerer, export
from paligax.inference.answerer import Answerer
from paligax.training.partitioning import Partitioner
from tests.inference import saved_run


@pytest.fixture(scope="module")
def place(module, params, vocabulary, lengths, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "export"
    return export.export(path, module, params, vocabulary, feature_lengths=lengths)


def test_a_model_is_cut_over_the_devices(place, params):
    model = Answerer.open(place, 8, Partitioner(fsdp=2, tensor=2, replicate_indivisible=True))
    assert model.placed.batch_size == model.placed.width == 8
    kernel = model.placed.params["language"]["encoder"]["mlp"]["wi_0"]["kernel"]  # [1, 16, 32]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(1, 8, 16)}
    same = jax.tree.map(lambda a, b: bool((jax.device_get(a) == b).all()), model.placed.params, params)
    assert jax.tree.all(same)


def test_what_cannot_answer_is_refused(place, module, params, lengths, tmp_path):
    with pytest.raises(ValueError, match="--batch_size=6: expected a multiple of 8"):
        Answerer.open(place, 6)
    export.export(tmp_path / "vit", module.vision, params["vision"], None, feature_lengths={"image": 16})
    with pytest.raises(ValueError, match="a ViT: `paligax infer` asks a PaLI"):
        Answerer.open(tmp_path / "vit", 8)


def test_weights_are_known_wherever_they_lie(place, module, params, vocabulary, lengths, tmp_path):
    shutil.copytree(place, tmp_path / "copy")
    assert answerer.identity(place) == answerer.identity(str(tmp_path / "copy"))
    other = {**params, "projection": {name: leaf + 1 for name, leaf in params["projection"].items()}}
    export.export(tmp_path / "other", module, other, vocabulary, feature_lengths=lengths)
    assert answerer.identity(tmp_path / "other") != answerer.identity(place)
    saved_run.save(tmp_path / "run", module, params, vocabulary, "", lengths)
    assert answerer.identity(tmp_path / "run") == answerer.identity(tmp_path / "run" / "checkpoints" / "7")
    assert answerer.identity(tmp_path / "run").startswith("step 7 ")
