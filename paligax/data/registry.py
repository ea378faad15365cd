"""From a ``Data`` to its tasks: the task modules fill seqio's registries for exactly this run."""

import difflib
import importlib
from collections.abc import Iterable

from paligax.data import Data
from paligax.data.runtime import seqio


def register(data: Data) -> None:
    """Imports ``data.task_modules`` and calls their ``register(data)``.

    Raises ImportError or AttributeError with the module's name where one cannot be imported or has no ``register``.
    """
    for name in data.task_modules:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
                raise
            raise ImportError(
                f"Data.task_modules names {name!r}, but there is no module {error.name!r}. Give modules with a "
                "register(data) function, as tasks.pretrain has one."
            ) from error
        if not hasattr(module, "register"):
            raise AttributeError(f"Task module {name!r} has no register(data): it must fill seqio's registries.")
        module.register(data)


def rates(data: Data) -> dict[str, float]:
    """Task name → rate, sorted by name: the mixture's, or ``data.rates``. Registers the tasks.

    Raises ValueError with the nearest known name for a mixture, a task or a rate that isn't there.
    """
    register(data)
    name = data.mixture_or_task
    known = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
    if name not in known:
        raise ValueError(
            f"No mixture or task {name!r}{_near(name, known)} The task modules {', '.join(data.task_modules)} "
            f"register: {', '.join(sorted(known)) or 'nothing'}."
        )
    if name in seqio.TaskRegistry.names():
        own = {name: 1.0}
    else:
        mixture = seqio.MixtureRegistry.get(name)
        own = {task.name: float(mixture.get_rate(task)) for task in mixture.tasks}
    chosen = own if data.rates is None else {task: float(rate) for task, rate in data.rates.items()}
    for task in chosen:
        if task not in own:
            raise ValueError(
                f"Data.rates names {task!r}, which is no task of {name!r}{_near(task, own)} "
                f"Its tasks: {', '.join(own)}."
            )
    return dict(sorted(chosen.items()))


def tasks(data: Data) -> list[seqio.Task]:
    """The mixture's tasks, sorted by name: the order of ``batch.task``. Registers them."""
    return tasks_of(rates(data))


def tasks_of(names: Iterable[str]) -> list[seqio.Task]:
    """The registered tasks of these names."""
    return [seqio.TaskRegistry.get(name) for name in names]


def task(data: Data, name: str) -> seqio.Task:
    """One registered task, member of the mixture or not. Raises ValueError with the nearest known name."""
    register(data)
    if name not in seqio.TaskRegistry.names():
        known = sorted(seqio.TaskRegistry.names())
        raise ValueError(f"No task {name!r}{_near(name, known)} Registered: {', '.join(known)}.")
    return seqio.TaskRegistry.get(name)


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else "."
