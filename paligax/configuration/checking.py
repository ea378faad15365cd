"""What is wrong with bindings that could all be read, and the text that reproduces them."""

import dataclasses
import inspect
import pprint
from collections.abc import Iterable, Iterator
from typing import Any

import gin

from paligax.configuration import annotations
from paligax.configuration.names import MACROS, configurable, is_required, macro_name, parameters, short
from paligax.configuration.reading import COMMAND_LINE, Binding, Reader, closest, nearest
from paligax.configuration.signatures import Default


def check(reader: Reader, roots: Iterable[str]) -> "Walk":
    """Follows what building the roots would use, and adds every mistake found to the reader's.

    Args:
      reader: with all files and words read.
      roots: the configurables that the run builds first, such as "Trainer".
    """
    _unused(reader)
    for binding in reader.bindings.values():
        _check_type(reader, binding)
    walk = Walk(reader)
    for root in roots:
        walk.visit(configurable(root).selector, (), "the run")
    return walk


def _unused(reader: Reader) -> None:
    """Names that nothing reads would be silently without effect."""
    scopes = reader.scopes_used | reader.macros_used  # gin calls what a macro holds in a scope of the macro's name
    prefixes = {"/".join(s.split("/")[:i]) for s in scopes for i in range(len(s.split("/")) + 1)}
    for binding in reader.bindings.values():
        on_command_line = binding.place.startswith(COMMAND_LINE)
        if not binding.selector and binding.parameter not in reader.macros_used:
            if on_command_line or binding.parameter not in MACROS:
                known = {*reader.macros_used, *MACROS}
                near = "" if binding.parameter in MACROS else nearest(binding.parameter, known)
                reader.meant.add(closest(binding.parameter, reader.macros_used) or "")
                reader.mistakes.append(f"{binding.place}: nothing uses the macro {binding.parameter}.{near}")
        if binding.scope not in prefixes | {""}:
            near = nearest(binding.scope, scopes)
            reader.mistakes.append(f"{binding.place}: no @{binding.scope}/… uses the scope of {binding.shown}.{near}")
    bound = {b.parameter for b in reader.bindings.values() if not b.selector}
    for name in sorted(reader.macros_used - bound - set(MACROS)):
        near = nearest(name, {*bound, *MACROS, "gin.REQUIRED"})
        reader.mistakes.append(f"%{name} has no value: set it with {name} = … or --gin.{name}=….{near}")


def _check_type(reader: Reader, binding: Binding) -> None:
    if not binding.selector:
        return
    origin, value = binding, binding.value
    while (name := macro_name(value)) and ("", "", name) in reader.bindings:
        origin = reader.bindings["", "", name]
        value = origin.value
    if is_required(value) or macro_name(value):
        return
    if problem := annotations.mismatch(parameters(binding.selector)[binding.parameter].annotation, value):
        through = f" (through {origin.parameter}, {binding.place})" if origin is not binding else ""
        reader.mistakes.append(f"{origin.place}: {binding.shown}{through} {problem}")


@dataclasses.dataclass
class Walk:
    """All that building the roots would call, in the order of first use.

    Attributes:
      selectors: full names of the configurables reached.
      macros: names of the macros reached.
    """

    reader: Reader
    selectors: dict[str, None] = dataclasses.field(default_factory=dict)
    macros: dict[str, None] = dataclasses.field(default_factory=dict)
    _seen: set[tuple[str, tuple[str, ...]]] = dataclasses.field(default_factory=set)

    def visit(self, selector: str, scope: tuple[str, ...], user: str) -> None:
        if (selector, scope) in self._seen:
            return
        self._seen.add((selector, scope))
        self.selectors[selector] = None
        prefixes = ["/".join(scope[:i]) for i in range(len(scope) + 1)]
        missing = []
        for name, parameter in parameters(selector).items():
            keys = [(p, selector, name) for p in prefixes if (p, selector, name) in self.reader.bindings]
            if keys:
                binding = self.reader.bindings[keys[-1]]
                self._value(binding.value, scope, f"{binding.shown} ({binding.place})")
            elif parameter.default is inspect.Parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
                missing += [name] if f"{short(selector)}.{name}" not in self.reader.meant else []
        if missing:
            owner = "/".join((*scope, short(selector)))
            self.reader.mistakes.append(
                f"{owner} needs {', '.join(missing)}; {user} uses it. Add `{owner}.{missing[0]} = …` to a gin file."
            )

    def _value(self, value: Any, scope: tuple[str, ...], user: str) -> None:
        for reference in _references(value):
            if is_required(reference):
                self.reader.mistakes.append(f"{user} is required: give it a value.")
            elif name := macro_name(reference):
                self._macro(name, user)
            else:
                self.visit(reference.configurable.selector, tuple(reference.scopes) or scope, user)

    def _macro(self, name: str, user: str) -> None:
        self.macros[name] = None
        binding = self.reader.bindings.get(("", "", name))
        if name in self.reader.meant:
            return
        if binding is None or is_required(binding.value):
            self.reader.mistakes.append(f"{name} has no value, and {user} needs it. Set it with --gin.{name}=…")
        else:
            self._value(binding.value, (name,), user)

    def text(self) -> str:
        """A gin file that builds the same by itself: macros as given, every binding, and literal defaults spelt out."""
        scopes = {"/".join(scope[:i]) for _, scope in self._seen for i in range(len(scope) + 1)}
        lines = [*self.reader.imports, ""] if self.reader.imports else []
        lines += [_statement(name, self.reader.bindings["", "", name].value) for name in self.macros]
        for selector in self.selectors:
            lines += ["", f"# {short(selector)}"]
            bound = {b.parameter for b in self.reader.bindings.values() if b.selector == selector and not b.scope}
            lines += [
                _statement(f"{short(selector)}.{name}", parameter.default)
                for name, parameter in parameters(selector).items()
                if name not in bound and not isinstance(parameter.default, Default) and _is_literal(parameter)
            ]
            own = [b for b in self.reader.bindings.values() if b.selector == selector]
            # A scope that nothing built is in would be a mistake there.
            lines += [_statement(b.shown, b.value) for b in own if b.scope in scopes]
        return "\n".join(lines).lstrip("\n") + "\n"


def _references(value: Any) -> Iterator[gin.config.ConfigurableReference]:
    if isinstance(value, gin.config.ConfigurableReference):
        yield value
    elif isinstance(value, dict):
        for item in (*value.keys(), *value.values()):
            yield from _references(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _references(item)


def _is_literal(parameter: inspect.Parameter) -> bool:
    if parameter.default is inspect.Parameter.empty:
        return False
    try:
        return gin.config.parse_value(repr(parameter.default)) == parameter.default
    except (SyntaxError, ValueError):
        return False


def _statement(name: str, value: Any) -> str:
    lines = pprint.pformat(value, width=110, sort_dicts=False).split("\n")
    if len(lines) == 1 and len(name) + len(lines[0]) < 115:
        return f"{name} = {lines[0]}"
    return "\n".join([f"{name} = \\", *(f"    {line}" for line in lines)])
