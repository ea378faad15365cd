"""Attention by hand-written kernels: splash on TPUs, cuDNN's on NVIDIA GPUs; neither holds the scores.

The compiler can't cut a kernel into parts, so on a mesh each device is given its own rows and heads to run it on.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

Array = Any

# The mesh axes that rows and heads are spread over, whatever a run's rules say of parameters: arrays that lie otherwise
# are moved. paligax.training.partitioning draws the mesh.
ROW_AXES, HEAD_AXES = ("data", "fsdp"), ("tensor",)

_LANES = 128  # splash takes lengths that are multiples of it
_MOST_BLOCK = 1024  # queries or keys in one block of splash: 4 MiB of scores
_MOST_CUDNN_SIZE = 128
_HIDDEN = -3e4  # float16 ends at 6.5e4


def mesh_of(x: Array) -> Any:
    """The ``jax.sharding.AbstractMesh`` that the program around ``x`` is compiled for, None where there is none.

    It says how many devices there are, and of which platform. Programs are compiled ahead of time for devices that this
    process doesn't have, so ``jax.default_backend()`` says nothing about them. What does is the mesh that ``x`` carries
    in its type, from parameters and batch through all that is computed from them; or that of ``jax.set_mesh``. Deciding
    by the mesh while tracing leaves one form in the program: ``jax.lax.platform_dependent`` would differentiate all of
    them, and would still need the mesh to cut the kernel's work.
    """
    mesh = jax.sharding.get_abstract_mesh()
    mesh = jax.typeof(x).sharding.mesh if mesh.empty else mesh
    return None if mesh.empty else mesh


def platform_of(x: Array) -> str | None:
    """What the program around ``x`` is compiled for, as "tpu", "gpu", "cpu"; None where that isn't known."""
    device = getattr(mesh_of(x), "abstract_device", None)
    return None if device is None else device.platform


def splash(
    query: Array,
    key: Array,
    value: Array,
    *,
    scale: float,
    key_mask: Array | None,
    causal: bool,
    interpret: bool = False,
) -> Array:
    """Attention by JAX's splash kernel for TPUs, in float32 or bfloat16, forward and backward.

    Args:
      query: [B, T, N, K]; any K.
      key: [B, S, N, K].
      value: [B, S, N, K].
      scale: what the products are multiplied with.
      key_mask: bool[B, S]; False keys are not attended to. A row without any attends to all, so that it stays finite.
      causal: whether the query at position t sees keys 0..t only.
      interpret: whether the kernel is emulated, on any platform.

    Returns:
      [B, T, N, K] in the dtype of ``value``.
    """
    # Imported here: it takes half a second that only TPUs need.
    from jax.experimental.pallas.ops.tpu import splash_attention

    (query_block, queries), (key_block, keys) = _blocks(query.shape[1]), _blocks(key.shape[1])
    sizes = splash_attention.BlockSizes(
        block_q=query_block,
        block_kv=key_block,
        block_q_dkv=query_block,
        block_kv_dkv=key_block,
        block_q_dq=query_block,
        block_kv_dq=key_block,
    )
    mask = (splash_attention.CausalMask if causal else splash_attention.FullMask)((queries, keys))

    def local(query: Array, key: Array, value: Array, key_mask: Array | None, _: None) -> Array:
        length, ids = query.shape[1], None
        if key_mask is not None or keys > key.shape[1]:
            # Queries see keys of their own segment, 1; keys that are masked or filled in are of segment 0.
            seen = jnp.ones(key.shape[:2], bool) if key_mask is None else _some(key_mask)
            ids = splash_attention.SegmentIds(
                q=jnp.ones((query.shape[0], queries), jnp.int32),
                kv=_fill(seen.astype(jnp.int32), 1, keys),
            )
        kernel = splash_attention.make_splash_mha(
            splash_attention.MultiHeadMask([mask] * query.shape[2]),
            block_sizes=sizes,
            head_shards=1,
            q_seq_shards=1,
            interpret=interpret,
        )
        query = query if scale == 1.0 else query * scale
        by_head = [jnp.swapaxes(_fill(x, 1, n), 1, 2) for x, n in ((query, queries), (key, keys), (value, keys))]
        return jnp.swapaxes(jax.vmap(kernel)(*by_head, ids), 1, 2)[:, :length].astype(value.dtype)

    return on_each_device(local, query, key, value, key_mask, None)


def cudnn(
    query: Array,
    key: Array,
    value: Array,
    *,
    scale: float,
    key_mask: Array | None,
    causal: bool,
    bias: Any,
) -> Array:
    """Attention by cuDNN's kernel for GPUs, forward and backward, gradient of the bias included.

    Args:
      query: bfloat16 or float16 [B, T, N, K].
      key: [B, S, N, K] in the same dtype.
      value: [B, S, N, K] in the same dtype.
      scale: what the products are multiplied with.
      key_mask: bool[B, S]; False keys are not attended to. A row without any attends to all, so that it stays finite.
      causal: whether the query at position t sees keys 0..t only.
      bias: a :class:`paligax.models.attention.RelativeBias`, of which [1, N, T, S] is made, or None.

    Returns:
      [B, T, N, K].

    Raises:
      ValueError: where dtype or K are none that the kernel takes.
    """
    problem = cudnn_problem(query, key_mask, bias, key.shape[1])
    if problem:
        raise ValueError(f"Attention of form 'cudnn' {problem}.")

    def local(query: Array, key: Array, value: Array, key_mask: Array | None, bias: Any) -> Array:
        arguments = cudnn_arguments(query, key, value, scale=scale, key_mask=key_mask, causal=causal, bias=bias)
        result = jax.nn.dot_product_attention(**arguments, implementation="cudnn")
        return result[:, : query.shape[1], :, : value.shape[3]]

    return on_each_device(local, query, key, value, key_mask, bias)


def cudnn_problem(query: Array, key_mask: Array | None, bias: Any, keys: int) -> str | None:
    """What keeps cuDNN's kernel from these arguments and what to do about it, None where nothing does."""
    if query.dtype not in (jnp.bfloat16, jnp.float16):
        return f"takes bfloat16 and float16, got {query.dtype}: set the tower's dtype='bfloat16', or form='chunked'"
    size = _cudnn_size(query.shape[3], _hides(key_mask, bias, keys))
    if size > _MOST_CUDNN_SIZE:
        return f"needs a head size of {size} here, mask included, and takes {_MOST_CUDNN_SIZE}: use form='chunked'"
    return None


@functools.cache
def has_cudnn() -> bool:
    """Whether this process has GPUs that cuDNN's kernel runs on: NVIDIA's from compute capability 8.0 on."""
    if jax.default_backend() != "gpu":
        return False
    capability = str(getattr(jax.local_devices()[0], "compute_capability", ""))  # "9.0"; AMD's are like "gfx90a"
    return capability.partition(".")[0].isdecimal() and float(capability) >= 8.0


def cudnn_arguments(
    query: Array,
    key: Array,
    value: Array,
    *,
    scale: float,
    key_mask: Array | None,
    causal: bool,
    bias: Any,
) -> dict[str, Any]:
    """What ``jax.nn.dot_product_attention`` is given, in shapes that cuDNN takes; see :func:`cudnn`.

    Masked keys are hidden by a feature of their own, 1 in each query and −30,000 in these keys: cuDNN's mask would be a
    bias [B, N, T, S]. Head sizes are filled up to a multiple of 8 and, where there is a bias, lengths to an even one.

    Returns:
      The keyword arguments. Of the result, [:, :T, :, :K] is meant.
    """
    hides = _hides(key_mask, bias, key.shape[1])
    size = _cudnn_size(query.shape[3], hides)
    seen = jnp.ones(key.shape[:2], bool) if key_mask is None else _some(key_mask)
    if bias is not None:
        queries, keys = (n + n % 2 for n in (query.shape[1], key.shape[1]))
        query, key, value, seen = _fill(query, 1, queries), *(_fill(x, 1, keys) for x in (key, value, seen))
        bias = bias.dense(jnp.arange(queries), jnp.arange(keys)).astype(query.dtype)
    if hides:
        hidden = jnp.where(seen, 0.0, _HIDDEN).astype(key.dtype)[:, :, None, None]
        query = jnp.concatenate([query, jnp.ones_like(query[..., :1])], axis=3)
        key = jnp.concatenate([key, jnp.broadcast_to(hidden, (*key.shape[:3], 1))], axis=3)
    query, key, value = (_fill(x, 3, size) for x in (query, key, value))
    return dict(query=query, key=key, value=value, bias=bias, scale=scale, is_causal=causal)


def _hides(key_mask: Array | None, bias: Any, keys: int) -> bool:
    """Whether there are keys that may not be attended to: masked ones, or one that makes their number even."""
    return key_mask is not None or (bias is not None and keys % 2 == 1)


def _cudnn_size(size: int, hides: bool) -> int:
    return -(-(size + hides) // 8) * 8


def _some(key_mask: Array) -> Array:
    """bool[B, S]: the mask, with all keys where a row has none."""
    return key_mask | ~jnp.any(key_mask, axis=1, keepdims=True)


def _blocks(length: int) -> tuple[int, int]:
    """(size of a block, length filled up to whole blocks): few blocks, of equal sizes, e.g. 1,764 → 896, 1,792."""
    number = -(-length // _MOST_BLOCK)
    block = -(-length // (number * _LANES)) * _LANES
    return block, number * block


def _fill(x: Array, axis: int, length: int) -> Array:
    """``x`` with zeros behind, up to ``length`` along ``axis``."""
    return jnp.pad(x, [(0, length - x.shape[axis] if i == axis else 0) for i in range(x.ndim)])


def on_each_device(
    local: Callable[..., Array], query: Array, key: Array, value: Array, key_mask: Array | None, bias: Any
) -> Array:
    """``local`` of the same arguments, on a mesh on each device's own rows and heads.

    A mesh axis that does not divide them is left out: its devices compute the same, as they do for uncut parameters.
    """
    mesh = mesh_of(query)
    if mesh is None or mesh.size == 1:
        return local(query, key, value, key_mask, bias)
    rows, heads = dividing(mesh, ROW_AXES, query.shape[0]), dividing(mesh, HEAD_AXES, query.shape[2])
    whole = PartitionSpec(rows, None, heads)
    specs = (whole, whole, whole, PartitionSpec(rows), PartitionSpec(None, heads))
    # Kernels don't tell over which axes their results vary, so that can't be checked.
    cut = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False)
    return cut(query, key, value, key_mask, bias)


def dividing(mesh: Any, names: tuple[str, ...], size: int) -> tuple[str, ...] | None:
    """Those of the mesh axes that together divide ``size``."""
    taken: tuple[str, ...] = ()
    for name in names:
        if name in mesh.shape and size % math.prod(mesh.shape[axis] for axis in (*taken, name)) == 0:
            taken += (name,)
    return taken or None
