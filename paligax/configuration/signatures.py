"""What a class or function takes, read from its source without importing it.

`paligax check` names every mistake of a gin file before jax, flax or TensorFlow are imported: what gin may bind is
therefore read from the syntax tree. tests/test_configuration.py holds these signatures against the real ones.
"""

import ast
import functools
import inspect
import pathlib

PACKAGE_ROOT = pathlib.Path(__file__).resolve().parents[2]


class Default:
    """A default that is no literal (a dtype, an object): shown as its source, never written into a config."""

    def __init__(self, source: str):
        self.source = source

    def __repr__(self) -> str:
        return f"<{self.source}>"


def signature(target: str) -> inspect.Signature:
    """The call signature of `target`.

    Args:
      target: "package.module:Name" or "package.module:Class.method" (a class method) of this project.

    Returns:
      A signature whose annotations are source strings; defaults are values where they are literals, else `Default`s.

    Raises:
      LookupError: the module has no such class or function.
    """
    module, qualname = target.split(":")
    body = _parse(PACKAGE_ROOT.joinpath(*module.split(".")).with_suffix(".py")).body
    *owners, name = qualname.split(".")
    for owner in owners:
        body = _definition(body, owner, target).body
    node = _definition(body, name, target)
    if isinstance(node, ast.ClassDef):
        return inspect.Signature(_class_parameters(node, body))
    parameters = _function_parameters(node, skip_first=bool(owners))
    if owners and node.args.kwarg:
        # Class.variant(name, **overrides): the overrides are the class's own parameters.
        taken = {p.name for p in parameters}
        fields = signature(f"{module}:{'.'.join(owners)}").parameters.values()
        parameters += [p.replace(default=Default("the variant's")) for p in fields if p.name not in taken]
    return inspect.Signature(parameters)


@functools.cache
def _parse(path: pathlib.Path) -> ast.Module:
    if not path.exists():
        path = path.with_suffix("") / "__init__.py"
    return ast.parse(path.read_text("utf-8"), str(path))


def _definition(body, name: str, target: str):
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return node
    raise LookupError(f"{target}: there is no class or function {name!r} in its source")


def _class_parameters(node: ast.ClassDef, module_body) -> list[inspect.Parameter]:
    """An own __init__ decides; otherwise the annotated fields, as dataclasses (and Linen modules) take them."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _function_parameters(item, skip_first=True)
    parameters = {}
    siblings = {n.name: n for n in module_body if isinstance(n, ast.ClassDef)}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in siblings:
            parameters |= {p.name: p for p in _class_parameters(siblings[base.id], module_body)}
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            annotation = ast.unparse(item.annotation)
            default = _field_default(item.value)
            if "ClassVar" in annotation or default is _NOT_A_PARAMETER:
                continue
            parameters[item.target.id] = _parameter(item.target.id, default, annotation)
    return list(parameters.values())


_NOT_A_PARAMETER = object()


def _field_default(value: ast.expr | None):
    """The default behind `= value`, where `value` may be dataclasses.field(...)."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "dataclasses.field"):
        keywords = {k.arg: k.value for k in value.keywords}
        if "init" in keywords and ast.literal_eval(keywords["init"]) is False:
            return _NOT_A_PARAMETER
        if "default_factory" in keywords:
            return Default(f"{ast.unparse(keywords['default_factory'])}()")
        value = keywords.get("default")
    return _default(value)


def _function_parameters(node: ast.FunctionDef, skip_first: bool) -> list[inspect.Parameter]:
    arguments = node.args
    positional = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = list(zip(positional, defaults, strict=True))[1 if skip_first else 0 :]
    pairs += list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))
    return [
        _parameter(a.arg, _default(d), ast.unparse(a.annotation) if a.annotation else inspect.Parameter.empty)
        for a, d in pairs
    ]


def _parameter(name, default, annotation) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _default(value: ast.expr | None):
    if value is None:
        return inspect.Parameter.empty
    try:
        return ast.literal_eval(value)
    except ValueError:
        return Default(ast.unparse(value))
