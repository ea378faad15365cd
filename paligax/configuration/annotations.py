"""Whether a bound value fits a parameter's annotation, read as text: enough to catch a word where a number belongs."""

import ast
import functools
from typing import Any

import gin

from paligax.configuration.names import CONFIGURABLES, INTERFACES, Unknown

_SIMPLE = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "None": (type(None),)}
_SEQUENCES = ("tuple", "list", "Sequence")
_MAPPINGS = ("dict", "Mapping")


def mismatch(annotation: Any, value: Any) -> str:
    """What is wrong with the value ("" if nothing is, or nothing is known)."""
    if not isinstance(annotation, str):
        return ""
    if isinstance(value, gin.config.ConfigurableReference):
        if value.evaluate or "Callable" in annotation or "type[" in annotation:
            return ""
        return f"takes an object, got {value} without parentheses. Write {value}()."
    if _fits(_parse(annotation), value):
        return ""
    return f"must be {annotation}, got {value!r} ({type(value).__name__}).{_hint(annotation, value)}"


@functools.cache
def _parse(annotation: str) -> ast.expr:
    return ast.parse(annotation, mode="eval").body


def _fits(node: ast.expr, value: Any) -> bool:
    if isinstance(value, gin.config.ConfigurableReference) or value is Unknown:
        return True
    match node:
        case ast.BinOp(left=left, right=right, op=ast.BitOr()):
            return _fits(left, value) or _fits(right, value)
        case ast.Constant(value=None):
            return value is None
        case ast.Constant(value=str() as quoted):
            return _fits(_parse(quoted), value)
        case ast.Name(id=name) if name in _SIMPLE:
            return isinstance(value, _SIMPLE[name]) and (name == "bool" or not isinstance(value, bool))
        case ast.Name(id=name) if name in CONFIGURABLES or name in INTERFACES:
            return False
        case ast.Name(id=name) if name in _SEQUENCES:
            return isinstance(value, tuple | list)
        case ast.Name(id=name) if name in _MAPPINGS:
            return isinstance(value, dict)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            return value in _constants(choices)
        case ast.Subscript(value=ast.Name(id=name), slice=items) if name in _SEQUENCES:
            return isinstance(value, tuple | list) and _sequence_fits(name, items, value)
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Tuple(elts=[key, item])) if name in _MAPPINGS:
            return isinstance(value, dict) and all(_fits(key, k) and _fits(item, v) for k, v in value.items())
    return True


def _sequence_fits(name: str, items: ast.expr, value: Any) -> bool:
    if name != "tuple":
        return all(_fits(items, v) for v in value)
    elements = items.elts if isinstance(items, ast.Tuple) else [items]
    if len(elements) == 2 and isinstance(elements[1], ast.Constant) and elements[1].value is ...:
        return all(_fits(elements[0], v) for v in value)
    return len(elements) == len(value) and all(map(_fits, elements, value))


def _constants(choices: ast.expr) -> list[Any]:
    return [c.value for c in (choices.elts if isinstance(choices, ast.Tuple) else [choices])]


def _hint(annotation: str, value: Any) -> str:
    if isinstance(value, str) and value.lower() in ("true", "false", "none"):
        return f" Write {value.capitalize()}."
    if isinstance(value, float) and value.is_integer() and "int" in annotation:
        return f" Write {int(value)}."
    if isinstance(value, str) and annotation.startswith(_SEQUENCES):
        return f" Write ({value!r},)."
    if annotation in CONFIGURABLES:
        return f" Write @{annotation}() and bind its parameters."
    if annotation in INTERFACES:
        return " Write @Name() of one."
    return ""
