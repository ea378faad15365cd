"""Reads gin files and `--gin.NAME=value` words into bindings; goes on after a mistake, to name all of them at once."""

import dataclasses
import difflib
import pathlib
import re
import tokenize
from collections.abc import Iterable
from typing import Any

import gin
from gin import config_parser

import gin_configs
from paligax.configuration.names import Unknown, configurable, is_required, known, parameters, short

GIN_CONFIGS = pathlib.Path(gin_configs.__file__).parent
COMMAND_LINE = "command line"


class ConfigurationError(ValueError):
    """Everything that is wrong with a configuration.

    Attributes:
      mistakes: one text each: where, what was got, what was expected, the nearest known name.
    """

    def __init__(self, mistakes: Iterable[str]):
        self.mistakes = list(dict.fromkeys(mistakes))
        count = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        super().__init__(f"{count} in the configuration:\n" + "\n".join(f"  {m}" for m in self.mistakes))


@dataclasses.dataclass(frozen=True)
class Binding:
    """`scope/selector.parameter = value`, or the macro `parameter = value` where the selector is "".

    Attributes:
      selector: the full name of a configurable in gin's registry.
      place: "file:line" or "command line".
    """

    scope: str
    selector: str
    parameter: str
    value: Any
    place: str

    @property
    def shown(self) -> str:
        scope = f"{self.scope}/" if self.scope else ""
        return f"{scope}{short(self.selector)}.{self.parameter}" if self.selector else self.parameter


class Reader(gin.config.ParserDelegate):
    """Collects bindings in the order in which they are read: a later one replaces an earlier one.

    Attributes:
      bindings: by (scope, selector, parameter); macros are ("", "", NAME).
      macros_used: every %NAME in any value read.
      scopes_used: the scope of every @scope/Name in any value read.
      imports: the statements `import …` of the files.
      mistakes: what could not be read.
      meant: "Name.parameter" or NAME that a misspelling probably meant; it is not reported as missing besides.
    """

    def __init__(self):
        super().__init__()
        self.bindings: dict[tuple[str, str, str], Binding] = {}
        self.macros_used: set[str] = set()
        self.scopes_used: set[str] = set()
        self.imports: list[str] = []
        self.mistakes: list[str] = []
        self.meant: set[str] = set()
        self._unplaced: list[str] = []
        self._open: list[pathlib.Path] = []

    def file(self, name: str, place: str = COMMAND_LINE) -> None:
        """Reads a gin file; `place` is where its name was written."""
        beside = [self._open[-1].parent] if self._open else []
        path = find(name, beside)
        if path is None:
            self.mistakes.append(
                f"{place}: there is no gin file {name!r} here, nor among the packaged ones.{nearest(name, packaged())}"
            )
            return
        if path in self._open:
            self.mistakes.append(f"{place}: {name!r} includes itself. Take the include out.")
            return
        self._open.append(path)
        self.text(path.read_text("utf-8"), _shown_path(path))
        self._open.pop()

    def text(self, text: str, shown: str) -> None:
        """Reads the text of a gin file, called `shown` in mistakes; a syntax error ends it."""
        try:
            for statement in config_parser.ConfigParser(text, self):
                self._statement(statement, f"{shown}:{statement.location.line_num}")
        except (SyntaxError, tokenize.TokenError, ValueError) as error:
            place = f"{shown}:{_line_of(error)}"
            self._flush(place)
            self.mistakes.append(f"{place}: {_first_line(error)}{_quoting_hint(error)}")

    def word(self, word: str) -> None:
        """Reads `NAME=value` of the command line; a value that is no gin literal is taken as a string."""
        key, equals, text = word.partition("=")
        place = f"{COMMAND_LINE}: --gin.{word}"
        if not equals or not re.fullmatch(r"([A-Za-z_]\w*/)*[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", key):
            self.mistakes.append(f"{place}: expected --gin.NAME=value or --gin.Name.parameter=value.")
            return
        value = self.value(text, place)
        self._flush(place)
        if value is not Unknown:
            self._bind(*config_parser.parse_binding_key(key), value, place)

    def value(self, text: str, place: str) -> Any:
        """The gin value in `text`, or `text` itself where it is none; `Unknown` where it is a broken one."""
        try:
            parser = config_parser.ConfigParser(text, self)
            value = parser.parse_value()
            if parser.current_token.type in (tokenize.NEWLINE, tokenize.ENDMARKER):
                return value
        except (SyntaxError, tokenize.TokenError, ValueError) as error:
            if text[0:1] in tuple("@%([{'\""):
                self.mistakes.append(f"{place}: not a gin value: {_first_line(error)}")
                return Unknown
        return text

    def bind_macro(self, name: str, value: Any, place: str) -> None:
        """NAME = value; %gin.REQUIRED asks for a value and takes none away: includes may come in any order."""
        if not (is_required(value) and ("", "", name) in self.bindings):
            self.bindings["", "", name] = Binding("", "", name, value, place)

    def macro_value(self, name: str) -> Any:
        """What a macro is bound to, or None."""
        return self.bindings["", "", name].value if ("", "", name) in self.bindings else None

    def bind_all(self) -> None:
        """Hands all bindings to gin."""
        gin.clear_config()
        for binding in self.bindings.values():
            key = (binding.scope, binding.selector, binding.parameter)
            gin.bind_parameter(key if binding.selector else (binding.parameter, "gin.macro", "value"), binding.value)

    # What gin's parser calls for @references and %macros.

    def configurable_reference(self, scoped_selector: str, evaluate: bool) -> Any:
        scope, _, selector = scoped_selector.rpartition("/")
        if scope:
            self.scopes_used.add(scope)
        if configurable(selector) is None:
            self._unplaced.append(f"@{scoped_selector} is not known.{nearest(selector, known())}")
            return Unknown
        return gin.config.ConfigurableReference(scoped_selector, evaluate)

    def macro(self, name: str) -> Any:
        reference = super().macro(name)
        if reference.configurable.selector == "gin.macro":  # and no constant such as %gin.REQUIRED
            self.macros_used.add(name)
        return reference

    def _statement(self, statement, place: str) -> None:
        self._flush(place)
        if isinstance(statement, config_parser.BindingStatement):
            self._bind(statement.scope, statement.selector, statement.arg_name, statement.value, place)
        elif isinstance(statement, config_parser.IncludeStatement):
            self.file(statement.filename, place)
        elif isinstance(statement, config_parser.ImportStatement):
            try:
                gin.parse_config(statement.format())
                self.imports.append(statement.format())
            except ImportError as error:
                self.mistakes.append(f"{place}: `{statement.format()}` fails: {_first_line(error)}")

    def _bind(self, scope: str, selector: str, parameter: str, value: Any, place: str) -> None:
        if not parameter:
            self.bind_macro(f"{scope}/{selector}" if scope else selector, value, place)
            return
        found = configurable(selector)
        if found is None:
            self.mistakes.append(f"{place}: {selector!r} is no name that can be bound.{nearest(selector, known())}")
            self.meant.add(f"{closest(selector, known())}.{parameter}")
            return
        names = parameters(found.selector)
        if parameter not in names:
            self.mistakes.append(f"{place}: {selector} has no parameter {parameter!r}.{nearest(parameter, names)}")
            self.meant.add(f"{short(found.selector)}.{closest(parameter, names)}")
            return
        self.bindings[scope, found.selector, parameter] = Binding(scope, found.selector, parameter, value, place)

    def _flush(self, place: str) -> None:
        self.mistakes += [f"{place}: {text}" for text in self._unplaced]
        self._unplaced.clear()


def find(name: str, beside: Iterable[pathlib.Path] = ()) -> pathlib.Path | None:
    """A gin file, relative to here, to the file that includes it, to the packaged gin_configs or to their parent."""
    for folder in (pathlib.Path(), *beside, GIN_CONFIGS, GIN_CONFIGS.parent):
        if (folder / name).is_file():
            return (folder / name).resolve()
    return None


def packaged() -> list[str]:
    """The gin files that come with paligax, as `--gin_file=` takes them."""
    return sorted(path.relative_to(GIN_CONFIGS).as_posix() for path in GIN_CONFIGS.rglob("*.gin"))


def closest(word: str, known_words: Iterable[str]) -> str | None:
    """The known word that looks most like this one, if any does."""
    by_lower = {w.lower(): w for w in sorted(known_words)}
    begun = [known for known in by_lower if known.startswith(word.lower()) and len(word) > 2]
    close = difflib.get_close_matches(word.lower(), begun or by_lower, n=1, cutoff=0.0 if begun else 0.6)
    return by_lower[close[0]] if close else None


def nearest(word: str, known_words: Iterable[str]) -> str:
    """The end of a message: the known word that is meant, or, where nothing is near, all of them if they are few."""
    words = sorted(known_words)
    if near := closest(word, words):
        return f" Nearest: {near!r}."
    return f" Known: {', '.join(words)}." if 0 < len(words) <= 20 else ""


def _shown_path(path: pathlib.Path) -> str:
    here = pathlib.Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _line_of(error: Exception) -> Any:
    if isinstance(error, SyntaxError) and error.lineno:
        return error.lineno
    if isinstance(error, tokenize.TokenError):
        return error.args[1][0]
    return "?"


def _first_line(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error.args[0] if error.args else error)
    return text.strip().splitlines()[0]


def _quoting_hint(error: Exception) -> str:
    found = re.search(r"Failed to parse token '(\w+)'", str(error))
    return f" In a gin file strings are quoted: '{found[1]}'." if found else ""
