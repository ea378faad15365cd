"""The optimizers a run can choose: what turns gradients into updates, at which rate, and how their state lies."""

import abc
import dataclasses
from typing import Any

import jax
import optax

from paligax.training import adafactor
from paligax.training.schedules import Schedule


class Optimizer(abc.ABC):
    """A schedule and a transformation of gradients; learning rate and weight decay are applied by the train step."""

    learning_rate: Schedule

    @abc.abstractmethod
    def transformation(self, axes: Any) -> optax.GradientTransformation:
        """Gradients → updates, given the tree of the trained parameters' logical axes."""

    @abc.abstractmethod
    def state_axes(self, axes: Any, shapes: Any) -> Any:
        """Logical axes of ``transformation(axes).init(params)``: the same tree with tuples of names as leaves."""


@dataclasses.dataclass(frozen=True)
class Adafactor(Optimizer):
    """Adafactor as in PaLI (section 3.3): no momentum, decay exponent 0.8, updates relative to the parameters' scale.

    Attributes:
      learning_rate: a schedule; with parameter scaling it is relative (PaLI: peak 1e-2 or 5e-3).
      max_gradient_norm: the global norm to which gradients are clipped; infinite by default.
      others: see :func:`paligax.training.adafactor.scale_by_adafactor`.
    """

    learning_rate: Schedule
    decay_exponent: float = 0.8
    max_decay: float = 1.0
    momentum: float = 0.0
    momentum_dtype: str = "float32"
    multiply_by_parameter_scale: bool = True
    min_parameter_scale: float = 1e-3
    clipping_threshold: float = 1.0
    min_size_to_factor: int = 128
    max_gradient_norm: float = float("inf")

    def transformation(self, axes: Any) -> optax.GradientTransformation:
        return adafactor.scale_by_adafactor(
            axes,
            decay_exponent=self.decay_exponent,
            max_decay=self.max_decay,
            momentum=self.momentum,
            momentum_dtype=self.momentum_dtype,
            multiply_by_parameter_scale=self.multiply_by_parameter_scale,
            min_parameter_scale=self.min_parameter_scale,
            clipping_threshold=self.clipping_threshold,
            min_size_to_factor=self.min_size_to_factor,
        )

    def state_axes(self, axes: Any, shapes: Any) -> Any:
        moments = jax.tree.map(
            lambda names, leaf: adafactor.moment_axes(names, leaf.shape, self.min_size_to_factor, self.momentum > 0),
            axes,
            shapes,
            is_leaf=adafactor.is_axes,
        )
        return adafactor.AdafactorState((), moments)


@dataclasses.dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); the decay stands in the treatments.

    Attributes:
      learning_rate: a schedule.
      b1: decay of the first moment.
      b2: decay of the second moment.
      epsilon: added to the root of the second moment.
      max_gradient_norm: the global norm to which gradients are clipped; infinite by default.
    """

    learning_rate: Schedule
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    max_gradient_norm: float = float("inf")

    def transformation(self, axes: Any) -> optax.GradientTransformation:
        return optax.scale_by_adam(b1=self.b1, b2=self.b2, eps=self.epsilon)

    def state_axes(self, axes: Any, shapes: Any) -> Any:
        return optax.ScaleByAdamState(count=(), mu=axes, nu=axes)
