"""A run's directory with one checkpoint, of step 7, as training writes it."""

import jax

from paligax import models
from paligax.training.checkpoints import Description
from paligax.training.saving import Checkpoints
from paligax.training.state import State


def save(directory, module, params, vocabulary, config, lengths):
    described = {} if vocabulary is None else vocabulary.to_dict()
    description = Description(models.describe(module), described, config, "x", ("vqa",), lengths)
    saver = Checkpoints(directory, 1, description, print)
    saver.newest()
    saver.save(7, State(jax.numpy.int32(7), jax.tree.map(jax.numpy.asarray, params), {"m": jax.numpy.zeros(1)}))
    saver.finish()
    saver.close()
