import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from paligax.training import trees
from paligax.training.partitioning import Partitioner
from paligax.training.state import model_info, random_key
from paligax.training.treatments import OTHERWISE, Frozen, Trained
from tests.training import toy

FREEZE = (("vision/.*", Frozen()), (OTHERWISE, Trained()))


def test_random_keys_depend_on_seed_name_and_step_alone():
    def bits(*args):
        return tuple(jax.random.key_data(random_key(*args)).tolist())

    assert bits(0, "dropout", 3) == bits(0, "dropout", np.int32(3))
    assert len({bits(0, "dropout", 3), bits(1, "dropout", 3), bits(0, "init", 3), bits(0, "dropout", 4)}) == 4


def test_frozen_parameters_have_no_optimizer_state():
    program = toy.program(toy.trainer(treatments=FREEZE))
    moments = set(program.abstract.optimizer.moments)
    assert moments == {"language", "projection"}
    assert "vision" in program.abstract.params


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_moments_lie_as_their_parameters():
    job = toy.trainer(partitioner=Partitioner(data=2, fsdp=2, tensor=2))
    program = toy.program(job, devices=jax.devices()[:8])
    params, moments = (trees.flatten(tree) for tree in (program.abstract.params, program.abstract.optimizer.moments))
    name = "language/encoder/attention/query/kernel"
    assert params[name].sharding.spec == PartitionSpec(None, "fsdp", "tensor")
    assert moments[f"{name}/row"].sharding.spec == PartitionSpec(None, "fsdp")
    assert moments[f"{name}/column"].sharding.spec == PartitionSpec(None, "tensor")
    assert moments["language/encoder/mlp_norm/scale/full"].sharding.spec == PartitionSpec(None, "fsdp")
    assert program.abstract_batch.image.sharding.spec == PartitionSpec(("data", "fsdp"))


def test_what_does_not_fit_is_found_before_anything_is_compiled():
    with pytest.raises(ValueError, match="batch_size=8 must be a multiple"):
        toy.program(toy.trainer(num_microbatches=3))
    with pytest.raises(ValueError, match="matched by no row"):
        toy.program(toy.trainer(treatments=(("vision/.*", Frozen()),)))


def test_model_info_names_shape_axes_and_treatment():
    text = model_info(toy.program(toy.trainer(treatments=FREEZE)))
    line = next(line for line in text.splitlines() if line.startswith("vision/blocks/mlp/wi/kernel"))
    assert line.split()[1:] == ["1×16×32", "float32", "(layers,", "embed,", "mlp)", "()", "Frozen()"]
    assert "parameters; optimizer state" in text
