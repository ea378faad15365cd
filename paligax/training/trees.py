"""Nested dicts of parameters and the names of their leaves: ``{"vision": {"norm": x}}`` ↔ ``{"vision/norm": x}``."""

from collections.abc import Mapping
from typing import Any

SEPARATOR = "/"


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Leaves by joined name, sorted. Everything that is not a mapping is a leaf (so are tuples of axis names)."""
    leaves: dict[str, Any] = {}
    for key in sorted(tree):
        value = tree[key]
        if isinstance(value, Mapping):
            leaves |= flatten(value, f"{prefix}{key}{SEPARATOR}")
        else:
            leaves[prefix + key] = value
    return leaves


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The nested dict whose leaves have these joined names."""
    tree: dict[str, Any] = {}
    for name, value in leaves.items():
        *parents, last = name.split(SEPARATOR)
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def map_named(function: Any, tree: Mapping[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    """``function(name, leaf, *leaves of the others)`` at every leaf; all trees have the same names."""
    flat = [flatten(other) for other in others]
    return unflatten({name: function(name, leaf, *(o[name] for o in flat)) for name, leaf in flatten(tree).items()})
