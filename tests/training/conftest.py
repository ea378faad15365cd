"""A small state to save, with what stands beside it."""

import jax
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from paligax.training.checkpoints import Description
from paligax.training.saving import Checkpoints
from paligax.training.state import State


@pytest.fixture
def make_state():
    """make_state(value, **params) → State of a few arrays, all of that value."""

    def make(value=1.0, shape=(3, 4)):
        def full(*shape):
            return jax.device_put(np.full(shape, value, np.float32))

        params = {"vision": {"norm": full(5)}, "language": {"encoder": {"kernel": full(*shape)}, "scale": full()}}
        return State(jax.device_put(np.int32(value)), params, {"count": jax.device_put(np.int32(7)), "m": full(5)})

    return make


@pytest.fixture
def abstract():
    """abstract(state) → the same as shapes with shardings."""
    sharding = SingleDeviceSharding(jax.devices()[0])
    return lambda state: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


@pytest.fixture
def description():
    return Description(
        architecture={"class": "PaLI", "vision": {"class": "ViT", "width": 5}},
        vocabulary={"class": "ByteVocabulary", "extra_ids": 3},
        config="Trainer.seed = 1\n",
        fingerprint="abc",
        task_names=("caption", "vqa"),
        feature_lengths={"image": 64, "inputs": 32, "targets": 16},
    )


@pytest.fixture
def lines():
    """Collects what is said."""
    return []


@pytest.fixture
def saved(tmp_path, description, lines):
    """saved(keep) → Checkpoints of the run directory tmp_path."""
    opened = []

    def make(keep=3):
        opened.append(Checkpoints(tmp_path, keep, description, lines.append))
        return opened[-1]

    yield make
    for checkpoints in opened:
        checkpoints.close()
