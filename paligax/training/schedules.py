"""Learning rates as functions of the step, which counts from 0: the first update has the first bit of the warm-up."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

# int32 step → float32 learning rate; traced inside the train step.
Schedule = Callable[[Any], Any]


def _warmup(step: Any, warmup_steps: int) -> Any:
    """Linear from 1/warmup_steps to 1."""
    return jnp.minimum(1.0, (jnp.asarray(step, jnp.float32) + 1.0) / max(warmup_steps, 1))


@dataclasses.dataclass(frozen=True)
class Constant:
    """Linear warm-up, then one value.

    Attributes:
      peak: learning rate after the warm-up.
      warmup_steps: 0 starts at the peak.
    """

    peak: float
    warmup_steps: int = 0

    def __call__(self, step: Any) -> Any:
        return self.peak * _warmup(step, self.warmup_steps)


@dataclasses.dataclass(frozen=True)
class InverseSquareRoot:
    """Linear warm-up to the peak, then peak · √(warmup_steps / step) (T5; PaLI section 3.3 with 1k steps of warm-up).

    Attributes:
      peak: learning rate at the end of the warm-up: 1e-2 for PaLI-3B, 5e-3 for PaLI-15B and 17B.
      warmup_steps: also the time scale of the decay.
    """

    peak: float
    warmup_steps: int = 1000

    def __post_init__(self):
        if self.warmup_steps < 1:
            raise ValueError(f"InverseSquareRoot.warmup_steps is its time scale: at least 1, got {self.warmup_steps}.")

    def __call__(self, step: Any) -> Any:
        count = jnp.asarray(step, jnp.float32) + 1.0
        scale = float(self.warmup_steps)
        return self.peak * jnp.minimum(count / scale, jnp.sqrt(scale / jnp.maximum(count, scale)))


@dataclasses.dataclass(frozen=True)
class Cosine:
    """Linear warm-up to the peak, then half a cosine down to ``final`` · peak at ``total_steps``.

    Attributes:
      peak: learning rate at the end of the warm-up.
      total_steps: where the end is reached, usually %TRAIN_STEPS.
      warmup_steps: part of total_steps.
      final: the end, as a fraction of the peak.
    """

    peak: float
    total_steps: int
    warmup_steps: int = 1000
    final: float = 0.0

    def __post_init__(self):
        if not 0 <= self.warmup_steps < self.total_steps:
            raise ValueError(
                f"Cosine.warmup_steps ({self.warmup_steps}) must be less than Cosine.total_steps ({self.total_steps})."
            )

    def __call__(self, step: Any) -> Any:
        done = (jnp.asarray(step, jnp.float32) - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        wave = 0.5 * (1.0 + jnp.cos(jnp.pi * jnp.clip(done, 0.0, 1.0)))
        return self.peak * _warmup(step, self.warmup_steps) * (self.final + (1.0 - self.final) * wave)


@dataclasses.dataclass(frozen=True)
class CoolDown:
    """Another schedule, taken linearly to zero over its last steps (Zhai et al. 2022, section 3.5).

    Attributes:
      schedule: the learning rate before the cool-down, which multiplies it as well.
      total_steps: where zero is reached, usually %TRAIN_STEPS.
      cooldown_steps: length of the way down.
    """

    schedule: Schedule
    total_steps: int
    cooldown_steps: int

    def __post_init__(self):
        if not 0 < self.cooldown_steps <= self.total_steps:
            raise ValueError(
                f"CoolDown.cooldown_steps ({self.cooldown_steps}) must be in 1..total_steps ({self.total_steps})."
            )

    def __call__(self, step: Any) -> Any:
        left = (self.total_steps - jnp.asarray(step, jnp.float32)) / self.cooldown_steps
        return self.schedule(step) * jnp.clip(left, 0.0, 1.0)
