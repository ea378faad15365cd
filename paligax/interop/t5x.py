"""T5X checkpoints: a msgpack file whose large leaves are zarr arrays beside it, read and written with tensorstore.

The layout is that of t5x.checkpoints (version 3): the tree lies under optimizer/target, a large leaf is a tensorstore
spec whose array is a directory named after it ("target.encoder.layers_0.attention.query.kernel").
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from paligax import models
from paligax.interop import msgpack_files, native
from paligax.interop.layouts import Rule
from paligax.interop.opened import Lazy, Opened, Tensors

FILE = "checkpoint"
VERSION = 3
_ROOTS = ("optimizer/target/", "target/", "params/")


def is_directory(path: pathlib.Path) -> bool:
    """Whether this looks like a step that T5X saved."""
    return path.is_dir() and (path / FILE).is_file()


def find(path: pathlib.Path) -> pathlib.Path | None:
    """The step's directory: the path itself, or the last one in a run's directory; None where there is none."""
    if is_directory(path):
        return path
    steps = {}
    for place in path.glob(f"{FILE}_*") if path.is_dir() else ():
        number = place.name.removeprefix(f"{FILE}_")
        if number.isdigit() and is_directory(place):
            steps[int(number)] = place
    return steps[max(steps)] if steps else None


def read_directory(path: pathlib.Path) -> dict[str, Any]:
    """Name → array (small leaves) or :class:`Lazy` (zarr arrays) of everything in a step's directory.

    Raises ValueError where a file is damaged, or names an array outside its directory.
    """
    return read_tree(msgpack_files.read_tree(path / FILE), path)


def read_tree(tree: Mapping[str, Any], directory: pathlib.Path) -> dict[str, Any]:
    """The arrays of a tree of flax or T5X, with the specs in it resolved; optimizer states are left out."""
    found: dict[str, Any] = {}

    def walk(node: Any, name: str) -> None:
        if isinstance(node, Mapping) and {"driver", "kvstore"} <= set(node):
            found[name] = _zarr(node, name, directory)
        elif isinstance(node, Mapping):
            for key, value in node.items():
                walk(value, f"{name}/{key}" if name else key)
        elif hasattr(node, "shape"):
            found[name] = node

    walk(tree, "")
    for root in _ROOTS:
        if below := {name.removeprefix(root): found[name] for name in found if name.startswith(root)}:
            return below
    return found


def _zarr(spec: Mapping[str, Any], name: str, directory: pathlib.Path) -> Lazy:
    path = spec["kvstore"].get("path", spec.get("path")) if isinstance(spec["kvstore"], Mapping) else None
    last = pathlib.PurePosixPath(str(path)).name  # whatever directory they were saved to, they lie beside the file
    if spec["driver"] != "zarr" or not isinstance(path, str) or last in ("", ".", "..") or "\0" in last:
        raise ValueError(f"{str(directory)!r} places {name} in {path!r} with driver {spec['driver']!r}: refused.")
    place = directory / last
    if not (place / ".zarray").is_file() or place.resolve().parent != directory.resolve():
        raise ValueError(f"{str(directory)!r} has no zarr array {last!r} for {name}. Was it copied completely?")
    store = _open({"driver": "zarr", "kvstore": {"driver": "file", "path": str(place.resolve())}}, place)
    dtype = np.dtype(store.dtype.numpy_dtype)
    stated = spec.get("metadata", {}).get("shape", list(store.shape))
    if list(stated) != list(store.shape):
        raise ValueError(f"{str(place)!r} has shape {list(store.shape)}; {FILE} says {list(stated)}.")
    return Lazy(store.shape, dtype, lambda: np.asarray(store.read().result()))


def _open(spec: Mapping[str, Any], place: pathlib.Path, **options: Any) -> Any:
    import tensorstore

    try:
        return tensorstore.open(dict(spec), **options).result()
    except ValueError as error:
        raise ValueError(
            f"{str(place)!r} is no zarr array, or is damaged: {str(error).splitlines()[0][:300]}"
        ) from error


def is_mt5(tensors: Tensors) -> bool:
    """Whether these are the leaves of T5X's encoder-decoder."""
    return "token_embedder/embedding" in tensors and "decoder/decoder_norm/scale" in tensors


def open_mt5(place: str, tensors: Tensors) -> Opened:
    """Raises ValueError where the sizes can't be read off, or the model isn't of T5 v1.1's kind."""

    def shape(name: str) -> tuple[int, int]:
        if name not in tensors or len(tensors[name].shape) != 2 or 0 in tensors[name].shape:
            got = list(tensors[name].shape) if name in tensors else "nothing"
            raise ValueError(f"{place!r}: expected {name} with 2 axes, got {got}; paligax reads T5 v1.1 and mT5.")
        return tensors[name].shape

    per_layer = "encoder/layers_0/relpos_bias/rel_embedding" in tensors
    relpos = "encoder/layers_0/relpos_bias" if per_layer else "encoder/relpos_bias"
    num_heads, num_buckets = shape(f"{relpos}/rel_embedding")
    joined = shape("encoder/layers_0/attention/query/kernel")[1]
    vocab_size, width = shape("token_embedder/embedding")
    tied = "decoder/logits_dense/kernel" not in tensors
    depths = {
        stack: 1
        + max(int(n.split("/")[1].removeprefix("layers_")) for n in tensors if n.startswith(f"{stack}/layers_"))
        for stack in ("encoder", "decoder")
        if shape(f"{stack}/layers_0/mlp/wi_0/kernel")
    }
    module = models.MT5(
        width=width,
        mlp_dim=shape("encoder/layers_0/mlp/wi_0/kernel")[1],
        encoder_depth=depths["encoder"],
        decoder_depth=depths["decoder"],
        num_heads=num_heads,
        head_dim=max(joined // num_heads, 1),
        vocab_size=vocab_size,
        num_buckets=num_buckets,
        bias_per_layer=per_layer,
        scale_logits=tied,
    )
    inputs = {"inputs": ((1, 1), np.int32), "targets": ((1, 1), np.int32)}
    return Opened(place, "its shapes say", module, inputs, mt5_rules(per_layer, tied), tensors)


def mt5_rules(bias_per_layer: bool = False, tied: bool = False) -> tuple[Rule, ...]:
    """Of t5x.examples.t5's network; "tied" where the logits come from the embedding."""
    head = Rule("logits/kernel", "token_embedder/embedding", "v d -> d v")
    rules = [
        Rule("token_embedder", "token_embedder/embedding"),
        head if tied else Rule("logits/kernel", "decoder/logits_dense/kernel"),
    ]
    blocks = {
        "encoder": {"attention": "attention"},
        "decoder": {"self_attention": "self_attention", "cross_attention": "encoder_decoder_attention"},
    }
    for stack, attentions in blocks.items():
        layer = f"{stack}/layers_{{i}}"
        for ours, theirs in attentions.items():
            norm = "pre_" + ours.removesuffix("attention") + "attention_layer_norm"
            rules.append(Rule(f"{stack}/{ours}_norm/scale", f"{layer}/{norm}/scale"))
            for name in ("query", "key", "value"):
                kernel = f"{layer}/{theirs}/{name}/kernel"
                rules.append(Rule(f"{stack}/{ours}/{name}/kernel", kernel, "d (n k) -> d n k"))
            rules.append(Rule(f"{stack}/{ours}/out/kernel", f"{layer}/{theirs}/out/kernel", "(n k) d -> n k d"))
        rules.append(Rule(f"{stack}/mlp_norm/scale", f"{layer}/pre_mlp_layer_norm/scale"))
        rules += [Rule(f"{stack}/mlp/{name}/kernel", f"{layer}/mlp/{name}/kernel") for name in ("wi_0", "wi_1", "wo")]
        rules.append(Rule(f"{stack}_norm/scale", f"{stack}/{stack}_norm/scale"))
        relpos = f"{layer}/relpos_bias" if bias_per_layer else f"{stack}/relpos_bias"
        rules.append(Rule(f"{stack}_relpos", f"{relpos}/rel_embedding", "n r -> r n"))
    return tuple(rules)


def write_directory(
    directory: pathlib.Path,
    shapes: Mapping[str, tuple[Sequence[int], Any]],
    make: Callable[[str], np.ndarray],
    step: int = 0,
) -> None:
    """Writes a step's directory as T5X does, a leaf at a time.

    Args:
      directory: exists.
      shapes: name (joined by "/") → (shape, dtype).
      make: name → its array, called once each and let go.
      step: the optimizer's.
    """
    from flax import serialization

    target: dict[str, Any] = {}
    for name, (shape, dtype) in shapes.items():
        array = np.ascontiguousarray(make(name))
        if array.shape != tuple(shape) or array.dtype != np.dtype(dtype):
            raise ValueError(f"{name!r} is {array.dtype}{list(array.shape)}; announced as {dtype}{list(shape)}.")
        place = "target." + name.replace(native.SEPARATOR, ".")
        # In chunks of about 64 MiB along the first axis, as T5X has them in principle.
        row = max(array.nbytes // max(len(array), 1), 1) if array.ndim else 1
        chunks = [max(min(len(array), (64 << 20) // row), 1), *array.shape[1:]] if array.ndim else []
        metadata = {"shape": list(shape), "chunks": chunks, "compressor": {"id": "gzip", "level": 1}}
        written_as = "bfloat16" if array.dtype == ml_dtypes.bfloat16 else array.dtype.name
        spec = {"driver": "zarr", "dtype": written_as, "metadata": metadata}
        whole = spec | {"kvstore": {"driver": "file", "path": str((directory / place).resolve())}}
        _open(whole, directory / place, create=True).write(array).result()
        target[name] = spec | {"kvstore": {"driver": "file", "path": place}}
    state = {"step": np.asarray(step, np.int32), "param_states": {}}
    tree = {"version": VERSION, "optimizer": {"target": native.unflatten(target), "state": state}}
    (directory / FILE).write_bytes(serialization.msgpack_serialize(tree))
