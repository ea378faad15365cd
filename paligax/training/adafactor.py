"""Adafactor (Shazeer & Stern 2018) as an optax transformation that knows the parameters' logical axes.

What differs from ``optax.adafactor``: rows and columns of the factored second moment are named axes instead of the two
largest dimensions ("embed" against all others, e.g. heads × kv together), and the layers of a scanned stack are treated
as the separate parameters that they are: moments, update clipping and parameter scale never mix them. On an unstacked
two-dimensional parameter both are the same.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Axes = tuple[str | None, ...]

APART = "layers"
ROW = "embed"


class AdafactorState(NamedTuple):
    """count: int32 updates done; moments: one dict a parameter: {"row", "column"} or {"full"}, maybe "momentum"."""

    count: Any
    moments: Any


def is_axes(leaf: Any) -> bool:
    """Whether this is a leaf of an axes tree: a tuple of names."""
    return isinstance(leaf, tuple) and all(name is None or isinstance(name, str) for name in leaf)


def _dims(axes: Axes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(row dimensions, column dimensions)."""
    rows = tuple(i for i, name in enumerate(axes) if name == ROW)
    columns = tuple(i for i, name in enumerate(axes) if name not in (ROW, APART))
    return rows, columns


def is_factored(axes: Axes, shape: tuple[int, ...], min_size_to_factor: int) -> bool:
    """Whether rows and columns both exist and have at least this many entries (their dimensions multiplied)."""
    rows, columns = _dims(axes)
    sizes = [math.prod(shape[i] for i in dims) for dims in (rows, columns)]
    return bool(rows) and bool(columns) and min(sizes) >= min_size_to_factor


def moment_axes(axes: Axes, shape: tuple[int, ...], min_size_to_factor: int, has_momentum: bool) -> dict[str, Axes]:
    """Logical axes of one parameter's moments, which decide how they are sharded."""
    rows, columns = _dims(axes)
    if is_factored(axes, shape, min_size_to_factor):
        moments = {
            "row": tuple(name for i, name in enumerate(axes) if i not in columns),
            "column": tuple(name for i, name in enumerate(axes) if i not in rows),
        }
    else:
        moments = {"full": axes}
    return moments | ({"momentum": axes} if has_momentum else {})


def scale_by_adafactor(
    axes: Any,
    *,
    decay_exponent: float = 0.8,
    max_decay: float = 1.0,
    momentum: float = 0.0,
    momentum_dtype: str = "float32",
    multiply_by_parameter_scale: bool = True,
    min_parameter_scale: float = 1e-3,
    clipping_threshold: float = 1.0,
    min_size_to_factor: int = 128,
    epsilon: float = 1e-30,
) -> optax.GradientTransformation:
    """Gradients → Adafactor's relative updates (to be multiplied with minus the learning rate).

    Args:
      axes: tree of tuples of logical axis names, same structure as the parameters.
      decay_exponent: second moments decay with 1 − t^−decay_exponent at update t = 1, 2, …
      max_decay: upper bound of that decay (0.999 for ViT-e: Zhai et al. 2022, section 3.4).
      momentum: β1; 0 keeps no first moment (PaLI).
      momentum_dtype: "bfloat16" halves the first moment's memory.
      multiply_by_parameter_scale: updates are relative to the parameter's root mean square.
      min_parameter_scale: lower bound of that scale.
      clipping_threshold: upper bound of the update's root mean square.
      min_size_to_factor: moments are kept whole where rows or columns have fewer entries.
      epsilon: added to squared gradients.
    """

    def plan(tree: Any) -> tuple[list[Axes], Any]:
        """Axes in the order of the tree's leaves, and how to rebuild the tree."""
        names = jax.tree.leaves(axes, is_leaf=is_axes)
        structure = jax.tree.structure(tree)
        if structure.num_leaves != len(names):
            raise ValueError(f"Adafactor got {structure.num_leaves} parameters and axes of {len(names)}.")
        return names, structure

    def init(params: Any) -> AdafactorState:
        names, structure = plan(params)
        moments = []
        for leaf_axes, leaf in zip(names, jax.tree.leaves(params), strict=True):
            sizes = moment_axes(leaf_axes, leaf.shape, min_size_to_factor, momentum > 0)
            rows, columns = _dims(leaf_axes)
            dropped = {"row": columns, "column": rows}
            moments.append(
                {
                    kind: jnp.zeros(
                        tuple(d for i, d in enumerate(leaf.shape) if i not in dropped.get(kind, ())),
                        momentum_dtype if kind == "momentum" else jnp.float32,
                    )
                    for kind in sizes
                }
            )
        return AdafactorState(jnp.zeros((), jnp.int32), jax.tree.unflatten(structure, moments))

    def update_one(grad: Any, moments: dict[str, Any], param: Any, leaf_axes: Axes, decay: Any) -> tuple[Any, dict]:
        grad = grad.astype(jnp.float32)
        rows, columns = _dims(leaf_axes)
        inner = tuple(sorted(rows + columns))  # everything but the layers
        square = jnp.square(grad) + epsilon
        new = {}
        if "row" in moments:
            new["row"] = decay * moments["row"] + (1.0 - decay) * jnp.mean(square, axis=columns)
            new["column"] = decay * moments["column"] + (1.0 - decay) * jnp.mean(square, axis=rows)
            row = jnp.expand_dims(new["row"], columns)
            row_factor = jax.lax.rsqrt(row / jnp.mean(row, axis=rows, keepdims=True))
            update = grad * row_factor * jax.lax.rsqrt(jnp.expand_dims(new["column"], rows))
        else:
            new["full"] = decay * moments["full"] + (1.0 - decay) * square
            update = grad * jax.lax.rsqrt(new["full"])
        update /= jnp.maximum(1.0, _rms(update, inner) / clipping_threshold)
        if multiply_by_parameter_scale:
            update *= jnp.maximum(_rms(param.astype(jnp.float32), inner), min_parameter_scale)
        if momentum:
            update = momentum * moments["momentum"].astype(jnp.float32) + (1.0 - momentum) * update
            new["momentum"] = update.astype(momentum_dtype)
        return update, new

    def update(grads: Any, state: AdafactorState, params: Any = None) -> tuple[Any, AdafactorState]:
        if params is None:
            raise ValueError("Adafactor needs the parameters: call update(grads, state, params).")
        names, structure = plan(grads)
        t = state.count.astype(jnp.float32) + 1.0
        decay = jnp.minimum(1.0 - t**-decay_exponent, max_decay)
        moments = structure.flatten_up_to(state.moments)
        results = [
            update_one(g, m, p, a, decay)
            for g, m, p, a in zip(jax.tree.leaves(grads), moments, jax.tree.leaves(params), names, strict=True)
        ]
        updates = jax.tree.unflatten(structure, [u for u, _ in results])
        return updates, AdafactorState(state.count + 1, jax.tree.unflatten(structure, [m for _, m in results]))

    return optax.GradientTransformation(init, update)


def _rms(x: Any, axes: tuple[int, ...]) -> Any:
    """Root mean square over these axes, kept as axes of size 1."""
    return jnp.sqrt(jnp.mean(jnp.square(x), axis=axes, keepdims=True))
