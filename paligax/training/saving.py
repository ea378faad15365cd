"""Writing the checkpoints of a run: in the background, whole or not at all, never at the cost of the ones before."""

import logging
import pathlib
import shutil
import threading
from collections.abc import Callable
from typing import Any

import jax

from paligax.training import branching, checkpoints, manifest, processes
from paligax.training.checkpoints import CheckpointError, Description
from paligax.training.state import State


def _is_not_orbax(record: logging.LogRecord) -> bool:
    """Whether a log record is not orbax's: pages of tracebacks of errors that it raises as well, and we report."""
    return "orbax" not in record.pathname


def _remove(directory: pathlib.Path) -> None:
    """Deletes a step's directory so that it is never seen half-deleted."""
    doomed = directory.with_name(directory.name + ".deleting")
    shutil.rmtree(doomed, ignore_errors=True)
    directory.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: the run's; they are kept in its subdirectory "checkpoints".
      keep: how many of the newest stay.
      description: written beside the arrays.
      say: prints a line for the user.
    """

    def __init__(self, directory: pathlib.Path, keep: int, description: Description, say: Callable[[str], None]):
        if keep < 1:
            raise ValueError(f"Trainer.keep is the number of checkpoints that stay: at least 1, got {keep}.")
        self.directory = pathlib.Path(directory).absolute() / checkpoints.FOLDER
        self._keep = keep
        self._description = description
        self._say = say
        self._writer: Any = None
        self._thread: threading.Thread | None = None
        self._error: tuple[int, BaseException] | None = None
        self._failed_step: int | None = None
        self.last: int | None = None  # the newest step that is known to be whole

    def newest(self) -> int | None:
        """The newest whole checkpoint's step, None where there are none; all processes get the same answer.

        Remains of interrupted saves are removed; damaged checkpoints are set aside as ``<step>.damaged``.

        Raises:
          CheckpointError: where there are checkpoints and none of them is whole.
        """
        step = -1
        if jax.process_index() == 0:
            self.directory.mkdir(parents=True, exist_ok=True)
            step = self._clean()
        step = processes.agree(step)
        if step == -2:
            raise CheckpointError(
                f"No checkpoint in {self.directory} is whole (see the lines above). Bring one back from a copy, or "
                "remove the run directory to start over."
            )
        self.last = None if step == -1 else step
        return self.last

    def _clean(self) -> int:
        """Tidies up; the newest whole step, −1 where no save was ever finished, −2 where all are damaged."""
        for path in self.directory.iterdir():
            if ".orbax-checkpoint-tmp" in path.name or path.name.endswith(".deleting"):
                shutil.rmtree(path, ignore_errors=True)
        step, damaged = checkpoints.newest_whole(self.directory, self._say)
        # One that has no manifest was interrupted; several are rather a copy that went wrong.
        interrupted = [broken for broken in damaged if not manifest.exists(self.directory / str(broken))]
        if step is None and damaged and (len(damaged) > 1 or not interrupted):
            return -2
        for broken in damaged:
            target = self.directory / f"{broken}.damaged"
            shutil.rmtree(target, ignore_errors=True)
            (self.directory / str(broken)).rename(target)
            if step is not None and broken in interrupted:
                shutil.rmtree(target, ignore_errors=True)
            else:
                self._say(f"It is set aside as {target}.")
        if damaged:
            self._say(f"The run goes on from step {step or 0}.")
        return -1 if step is None else step

    def description(self, step: int) -> Description:
        return Description.read(self.directory / str(step))

    def check_fit(self, step: int, abstract: State) -> None:
        """Raises CheckpointError that lists what a checkpoint has otherwise than the model and the optimizer."""
        checkpoints.check_fit(self.directory / str(step) / "params", abstract.params)
        checkpoints.check_fit(self.directory / str(step) / "optimizer", abstract.optimizer)

    def restore(self, step: int, abstract: State) -> State:
        """The state saved at a step, with the shardings of ``abstract``, which must fit (:meth:`check_fit`)."""
        return branching.restore(self.directory / str(step), step, abstract)

    def open_writer(self) -> None:
        """Before the first step, so that no step waits for it: importing the library alone takes a second."""
        import orbax.checkpoint as ocp

        if self._writer is None:
            logging.getLogger("absl").addFilter(_is_not_orbax)
            self._writer = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())

    def save(self, step: int, state: State) -> None:
        """Starts writing a checkpoint; returns once the arrays are copied off the devices.

        Raises:
          CheckpointError: where this or the save before failed, for instance because the disk is full.
        """
        import orbax.checkpoint as ocp

        self.finish()
        if (self.directory / str(step)).exists():
            return
        self._check_space(step, state)
        self.open_writer()
        items = ocp.args.Composite(
            params=ocp.args.PyTreeSave(state.params), optimizer=ocp.args.PyTreeSave(state.optimizer)
        )
        try:
            self._writer.save(self.directory / str(step), args=items)
        except Exception as error:
            raise self._failed(step, error) from error
        self._thread = threading.Thread(target=self._complete, args=(step,), name="checkpoint")
        self._thread.start()

    def _complete(self, step: int) -> None:
        """In the background: waits for the arrays, then adds description and manifest, then removes what is too old."""
        try:
            self._writer.wait_until_finished()
            if jax.process_index() == 0:
                self._description.write(self.directory / str(step), step)
                manifest.write(self.directory / str(step))
                self.last = step
                for old in checkpoints.steps(self.directory)[self._keep :]:
                    _remove(self.directory / str(old))
        except BaseException as error:  # handed to the main thread by check()
            self._error = (step, error)

    def check(self) -> None:
        """Raises CheckpointError where a save in the background has failed."""
        if self._error is not None:
            (step, error), self._error = self._error, None
            raise self._failed(step, error) from error

    def finish(self) -> None:
        """Waits for the save that is under way. Raises CheckpointError where it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def close(self, patience: float | None = None) -> None:
        """Waits, then lets go of the writer's threads. Raises CheckpointError where a save failed.

        Args:
          patience: seconds to wait for a save that may never end, as another process that takes part in it is gone; it
            is then left as it is.
        """
        if patience is not None:
            if self._thread is not None:
                self._thread.join(patience)
            return
        try:
            self.finish()
        finally:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            if self._failed_step is not None:
                self._remove_remains(self._failed_step)

    def _check_space(self, step: int, state: State) -> None:
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            reason = OSError(f"the disk has {free / 2**30:.2f} GiB free, it needs {needed / 2**30:.2f} GiB")
            raise self._failed(step, reason) from reason

    def _remove_remains(self, step: int) -> None:
        if jax.process_index() == 0:
            for path in self.directory.glob(f"{step}*"):
                if path.name == str(step) and not manifest.exists(path) or ".orbax-checkpoint-tmp" in path.name:
                    shutil.rmtree(path, ignore_errors=True)

    def _failed(self, step: int, error: BaseException) -> CheckpointError:
        """Removes what was written of a step and says what is left."""
        self._failed_step = step  # what is still being written of it is removed by close()
        self._remove_remains(step)
        left = checkpoints.steps(self.directory)
        there = f"Checkpoint {left[0]} and older ones are untouched" if left else "There is no earlier checkpoint"
        resume = f"goes on from step {left[0]}" if left else "starts again"
        return CheckpointError(
            f"The checkpoint of step {step} could not be written to {self.directory}: {_reason(error)}. {there}. Make "
            f"room (or lower Trainer.keep, now {self._keep}) and start the same command again: it {resume} and ends "
            "with the same parameters."
        )


def _reason(error: BaseException) -> str:
    """The line of an error that a person needs; the libraries' run over pages."""
    text = str(error)
    for sign in ("No space left on device", "Disk quota exceeded", "File too large", "Permission denied"):
        if sign in text:
            return sign.lower()
    return text.splitlines()[0][:500] if text else type(error).__name__
