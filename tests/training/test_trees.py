import jax.numpy as jnp

from paligax.training import trees

TREE = {"b": {"y": 2, "x": {"k": 1}}, "a": ("embed", None)}


def test_flatten_sorts_and_takes_tuples_as_leaves():
    assert list(trees.flatten(TREE).items()) == [("a", ("embed", None)), ("b/x/k", 1), ("b/y", 2)]


def test_unflatten_undoes_it():
    assert trees.unflatten(trees.flatten(TREE)) == TREE


def test_map_named_gets_names_and_the_others_leaves():
    left, right = {"a": {"b": jnp.ones(2)}}, {"a": {"b": 3}}
    mapped = trees.map_named(lambda name, x, y: (name, float(x.sum()) * y), left, right)
    assert mapped == {"a": {"b": ("a/b", 6.0)}}
