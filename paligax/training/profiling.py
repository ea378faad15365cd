"""A window of steps that is traced, for TensorBoard's profiler or Perfetto."""

import abc
import pathlib
from collections.abc import Callable

import jax

FOLDER = "profile"


class Profile(abc.ABC):
    """Told of every step."""

    @abc.abstractmethod
    def before(self, step: int) -> None:
        """Called before the update that makes step ``step`` + 1."""

    @abc.abstractmethod
    def close(self) -> None:
        """Writes what has been traced so far."""


class NoProfile(Profile):
    """Traces nothing."""

    def before(self, step: int) -> None:
        pass

    def close(self) -> None:
        pass


class Window(Profile):
    """Traces the updates ``first`` + 1 … ``last`` into the run's "profile" folder.

    Args:
      directory: the run's.
      first, last: steps, first < last. A start of the run that begins beyond ``first`` traces nothing.
      say: prints a line for the user.
    """

    def __init__(self, directory: pathlib.Path, first: int, last: int, say: Callable[[str], None]):
        self._directory, self._first, self._last, self._say = directory / FOLDER, first, last, say
        self._is_open = False

    def before(self, step: int) -> None:
        if step == self._first:
            jax.profiler.start_trace(str(self._directory))
            self._is_open = True
        elif step == self._last:
            self.close()

    def close(self) -> None:
        if self._is_open:
            jax.effects_barrier()
            jax.profiler.stop_trace()
            self._is_open = False
            self._say(f"Steps {self._first + 1} to {self._last} are traced: tensorboard --logdir={self._directory}")


def window(words: str) -> tuple[int, int] | None:
    """ "10:15" → (10, 15); "" → None. Raises ValueError for anything else."""
    if not words:
        return None
    first, colon, last = words.partition(":")
    if not (colon and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise ValueError(f"--profile={words!r}: expected FIRST:LAST, two steps, e.g. --profile=100:105.")
    return int(first), int(last)
