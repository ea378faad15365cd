"""From gin files and `--gin.NAME=value` words to the objects of a run.

    configuration = parse(["experiments/pali_17b.gin"], ["TRAIN_STEPS=1000"], roots=["Trainer"])
    trainer = configuration.build("Trainer")

The rooms of paligax don't know gin: names.py binds their constructors by name, and imports them when they are called.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import gin

from paligax.configuration import names
from paligax.configuration.checking import check
from paligax.configuration.reading import ConfigurationError, Reader, nearest

__all__ = ["Configuration", "ConfigurationError", "nearest", "parse"]


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Bindings without mistakes, handed to gin.

    Attributes:
      text: a gin file that gives the same run by itself.
      model_dir: the run directory, "" where none was given.
      bound: the short names of all configurables that have bindings.
    """

    text: str
    model_dir: str
    bound: frozenset[str]

    def build(self, name: str) -> Any:
        """The object of a configurable's name, as bound."""
        return gin.get_configurable(name)()


def parse(
    gin_files: Sequence[str],
    words: Sequence[str] = (),
    roots: Sequence[str] | None = None,
    *,
    model_dir: str = "",
    text: str = "",
) -> Configuration:
    """Reads gin files in order, then the words; a later binding replaces an earlier one.

    Nothing but gin is imported, and no configurable is called.

    Args:
      gin_files: paths, relative to here or to the packaged gin_configs.
      words: "NAME=value" or "Name.parameter=value", as they follow `--gin.` on the command line.
      roots: the configurables that will be built; all that building them needs must have a value.
        None: those of names.ROOTS that are bound.
      model_dir: the run directory, if it is not bound to MODEL_DIR; it is then the macro's value.
      text: a gin text to read before the files (a checkpoint's own configuration).
    Raises:
      ConfigurationError: lists every mistake.
    """
    names.register()
    reader = Reader()
    if text:
        reader.text(text, "the checkpoint's configuration")
    for name in gin_files:
        reader.file(name)
    for word in words:
        reader.word(word)
    if model_dir:
        reader.bind_macro("MODEL_DIR", model_dir, "--model_dir")
    bound = frozenset(names.short(b.selector) for b in reader.bindings.values() if b.selector)
    walk = check(reader, [r for r in names.ROOTS if r in bound] if roots is None else roots)
    if reader.mistakes:
        raise ConfigurationError(reader.mistakes)
    reader.bind_all()
    return Configuration(walk.text(), reader.macro_value("MODEL_DIR") or "", bound)
