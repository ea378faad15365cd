"""Functions of the user's own, named in a configuration as "module:function"."""

import difflib
import importlib
from collections.abc import Callable
from typing import Any


def function(place: str, what: str) -> Callable[..., Any]:
    """The function that ``place`` names: "mypackage.reading:read".

    Args:
      place: module and name in it, with a colon between.
      what: what it is for, for messages: "a language detector".

    Raises:
      ValueError: where the text has no such form, or the module no such function.
      ImportError: where the module cannot be imported.
    """
    module_name, colon, name = place.partition(":")
    if not (module_name and colon and name):
        raise ValueError(f"{place!r} doesn't name {what}: expected MODULE:FUNCTION, like mypackage.reading:read.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ImportError(f"{place!r}, {what}, cannot be imported: {error}") from error
    found = getattr(module, name, None)
    if not callable(found):
        callables = [key for key, value in vars(module).items() if callable(value)]
        near = difflib.get_close_matches(name, callables, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"Module {module_name!r} has no function {name!r}, {what}{hint}")
    return found
