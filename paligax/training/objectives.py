"""What a batch's loss is.

An objective returns sums, never means: the train step adds them up over microbatches and devices and divides once, so
that how a batch is cut changes nothing.
"""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from paligax.batch import LabelBatch, TextBatch

Array = Any
# (sum of the weighted losses, sum of the weights, {"loss", "weight", "correct"}: sums per task, float32[tasks])
Sums = tuple[Array, Array, dict[str, Array]]
MEANS = ("tokens", "examples")


class Objective(abc.ABC):
    """Turns a model and a batch into sums."""

    @abc.abstractmethod
    def example_args(self, batch: Any) -> tuple[Any, ...]:
        """The model's arguments for this (abstract) batch, as for ``module.init(key, *args)``."""

    @abc.abstractmethod
    def sums(self, module: Any, params: Any, batch: Any, rngs: dict[str, Array], num_tasks: int) -> Sums:
        """Loss and weight sums of the batch; ``rngs`` may be empty (nothing random)."""


def _per_task(values: Array, task: Array, num_tasks: int) -> Array:
    """[B] → [num_tasks]."""
    return jax.ops.segment_sum(values, task, num_tasks)


def token_losses(logits: Array, targets: Array, z_loss: float, label_smoothing: float) -> Array:
    """Softmax cross-entropy of float32[B, T, V] at int32[B, T] → float32[B, T].

    With smoothing ε the target distribution is 1 − ε at the target and ε / V everywhere. z_loss · log²(Z) keeps the
    normaliser Z near 1 (Mesh TensorFlow; T5X uses 1e-4).
    """
    logits = logits.astype(jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    # A comparison instead of a gather: it is cut along the vocabulary like the logits.
    at_target = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1) == targets[..., None]
    target_logit = jnp.sum(jnp.where(at_target, logits, 0.0), axis=-1)
    expected = (1.0 - label_smoothing) * target_logit
    if label_smoothing:
        expected += label_smoothing * jnp.mean(logits, axis=-1)
    loss = log_z - expected
    return loss + z_loss * jnp.square(log_z) if z_loss else loss


@dataclasses.dataclass(frozen=True)
class TextLoss(Objective):
    """Teacher-forced softmax cross-entropy over target tokens (PaLI section 3.2).

    Attributes:
      mean_over: "tokens" of the batch, as in T5X; or "examples": first the mean over each example's tokens, so that an
        answer of two tokens counts as much as a list of boxes (big_vision's way).
      z_loss: weight of log²(Z); the paper does not state it: 0.
      label_smoothing: the paper does not state it: 0.
    """

    mean_over: str = "tokens"
    z_loss: float = 0.0
    label_smoothing: float = 0.0

    def __post_init__(self):
        if self.mean_over not in MEANS:
            raise ValueError(f"mean_over={self.mean_over!r}: expected one of {', '.join(MEANS)}.")

    def example_args(self, batch: TextBatch) -> tuple[Any, ...]:
        return batch.image, batch.inputs, batch.targets, batch.image_mask

    def sums(self, module: Any, params: Any, batch: TextBatch, rngs: dict[str, Array], num_tasks: int) -> Sums:
        logits = module.apply({"params": params}, *self.example_args(batch), rngs=rngs)
        losses = token_losses(logits, batch.targets, self.z_loss, self.label_smoothing)
        weights = batch.weights.astype(jnp.float32)
        losses = losses * weights
        # An example's tokens all have its weight, or 0 where they are padding.
        tokens = jnp.sum(batch.weights > 0, axis=1, keepdims=True) if self.mean_over == "examples" else 1.0
        share = 1.0 / jnp.maximum(tokens, 1.0)
        correct = (jnp.argmax(logits, axis=-1) == batch.targets) * weights
        per_task = {
            "loss": _per_task(losses.sum(1), batch.task, num_tasks),
            "weight": _per_task(weights.sum(1), batch.task, num_tasks),
            "correct": _per_task(correct.sum(1), batch.task, num_tasks),
        }
        return (losses * share).sum(), (weights * share).sum(), per_task


@dataclasses.dataclass(frozen=True)
class LabelLoss(Objective):
    """Sigmoid cross-entropy, summed over the classes, a mean over the examples (Zhai et al. 2022; PaLI section 3.1).

    "correct" counts the examples whose whole label set is right at threshold 0.5.
    """

    def example_args(self, batch: LabelBatch) -> tuple[Any, ...]:
        return (batch.image,)

    def sums(self, module: Any, params: Any, batch: LabelBatch, rngs: dict[str, Array], num_tasks: int) -> Sums:
        logits = module.apply({"params": params}, batch.image, rngs=rngs).astype(jnp.float32)
        labels = batch.labels.astype(jnp.float32)
        losses = -(labels * jax.nn.log_sigmoid(logits) + (1.0 - labels) * jax.nn.log_sigmoid(-logits)).sum(-1)
        weights = batch.weights.astype(jnp.float32)
        losses = losses * weights
        correct = jnp.all((logits > 0) == (labels > 0.5), axis=-1) * weights
        per_task = {
            "loss": _per_task(losses, batch.task, num_tasks),
            "weight": _per_task(weights, batch.task, num_tasks),
            "correct": _per_task(correct, batch.task, num_tasks),
        }
        return losses.sum(), weights.sum(), per_task
