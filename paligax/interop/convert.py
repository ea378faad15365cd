"""Weights out: a model of ours in somebody else's format, written a leaf at a time.

The tables are those that reading uses, the other way round, so that what is read back has the same bits.
"""

import dataclasses
import json
import math
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from paligax import models
from paligax.interop import big_vision, hf, hf_layouts, native, npz_files, t5x, weight_files
from paligax.interop.layouts import Layout, Rule
from paligax.interop.opened import ARCHITECTURE, Lazy

FORMATS = ("hf", "big_vision", "t5x")
NPZ = "model.npz"


@dataclasses.dataclass(frozen=True)
class Leaves:
    """A model whose leaves are read when asked.

    Attributes:
      module: of paligax.models.
      shapes: name, joined by "/" → something with ``.shape`` and ``.dtype``.
      read: name → the leaf on the host.
    """

    module: Any
    shapes: Mapping[str, Any]
    read: Callable[[str], np.ndarray]

    def below(self, module: Any, root: str) -> "Leaves":
        """The submodule whose leaves lie under ``root``."""
        prefix = root + native.SEPARATOR
        shapes = {n.removeprefix(prefix): self.shapes[n] for n in self.shapes if n.startswith(prefix)}
        return Leaves(module, shapes, lambda name: self.read(prefix + name))


def write(leaves: Leaves, path: str | os.PathLike, form: str) -> list[pathlib.Path]:
    """Writes a model in a foreign format; what was written appears whole or not at all.

    Args:
      leaves: the model: an MT5 ("hf", "t5x"), a ViT ("hf", "big_vision"), a SigLIP ("hf", "big_vision"), or a PaLI, of
        which the towers that the format has are written, each to a directory of its own: "language" and "vision", and
        with "hf" what lies between them to "projection.safetensors".
      path: a directory that doesn't exist or is empty; with "big_vision" it may be the .npz file's own path. Beside
        weights in "big_vision" and "t5x", which say little of the model, stands its architecture.json.
      form: one of ``FORMATS``.

    Returns:
      what was written.

    Raises:
      FileExistsError: where the place holds something.
      ValueError: where the format has no place for the model.
    """
    if form not in FORMATS:
        raise ValueError(f"Format {form!r} is not known; known: paligax, {', '.join(FORMATS)}.")
    path = pathlib.Path(path).expanduser()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"{str(path)!r} exists: choose another place, or remove it.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        if path.suffix == ".npz":
            if form != "big_vision" or isinstance(leaves.module, models.PaLI):
                raise ValueError(f"{str(path)!r} is one .npz file; only one tower in big_vision's format is one.")
            if stated := big_vision.what_a_file_cannot_say(leaves.module):
                raise ValueError(
                    f"A big_vision file can't say that this model has {stated}: write a directory instead."
                )
            _big_vision(leaves, partial / NPZ)
            (partial / NPZ).replace(path)
            return [path]
        written = _parts(leaves, partial, form)
        partial.chmod(0o755)
        if path.is_dir():
            path.rmdir()
        partial.rename(path)
        return [path / name for name in written]
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise
        raise OSError(f"{str(path)!r} could not be written: {error}. Nothing is left of it.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _parts(leaves: Leaves, place: pathlib.Path, form: str) -> list[str]:
    """Writes the whole model, or of a PaLI each part; returns their names below the place."""
    if not isinstance(leaves.module, models.PaLI):
        _WRITERS[form](leaves, place)
        return ["."]
    towers = {"language": leaves.module.language, "vision": leaves.module.vision}
    has = {"hf": ("language", "vision"), "big_vision": ("vision",), "t5x": ("language",)}[form]
    for name in has:
        (place / name).mkdir()
        _WRITERS[form](leaves.below(towers[name], name), place / name)
    if form != "hf":
        return list(has)
    between = [name for name in leaves.shapes if name.split(native.SEPARATOR)[0] not in towers]
    shapes = {name: (leaves.shapes[name].shape, leaves.shapes[name].dtype) for name in between}
    weight_files.write(place / "projection.safetensors", shapes, leaves.read)
    return [*has, "projection.safetensors"]


# ----------------------------------------------------------------------------------------------------- transformers


def _hf(leaves: Leaves, place: pathlib.Path) -> None:
    module = leaves.module
    if isinstance(module, models.MT5):
        config, rules = _mt5_config(module), hf_layouts.mt5_rules(module.bias_per_layer)
    elif isinstance(module, models.SigLIP):
        config, rules = _siglip_config(leaves), hf_layouts.siglip_rules()
    elif isinstance(module, models.ViT) and module.class_token:
        rules = tuple(rule for rule in hf_layouts.vit_rules() if rule.ours not in ("class_token", "pos_embedding"))
        config = {"architectures": ["ViTModel"], "model_type": "vit"} | _tower_config(module, leaves, "pos_embedding")
    elif isinstance(module, models.ViT):
        config = {"architectures": ["SiglipVisionModel"], "model_type": "siglip_vision_model"}
        config |= _tower_config(module, leaves, "pos_embedding") | {"vision_use_head": False}
        rules = tuple(hf_layouts.below("", "vision_model.", hf_layouts.siglip_vision_rules()))
    else:
        raise ValueError(f"transformers has no class that {type(module).__name__} could be written as.")
    tensors = _laid_out(leaves, rules)
    if config["model_type"] == "vit":
        tensors |= _joined_class_token(leaves)
    dtypes = {str(tensor.dtype) for tensor in tensors.values()}
    config |= {"dtype": dtypes.pop() if len(dtypes) == 1 else "float32"}
    (place / hf.CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    weight_files.write(place / hf.WEIGHTS, _announced(tensors), lambda name: np.asarray(tensors[name]))


def _mt5_config(module: models.MT5) -> dict[str, Any]:
    kind, name = ("umt5", "UMT5") if module.bias_per_layer else ("t5", "T5") if module.scale_logits else ("mt5", "MT5")
    if module.activation == "gelu":
        raise ValueError("transformers' T5 reads gated-gelu as the tanh approximation; this model has the exact GELU.")
    gate = "gelu" if module.activation == "gelu_tanh" else hf.activation_name(module.activation)
    return {
        "architectures": [f"{name}ForConditionalGeneration"],
        "model_type": kind,
        "is_encoder_decoder": True,
        "d_model": module.width,
        "d_ff": module.mlp_dim,
        "d_kv": module.head_dim,
        "num_heads": module.num_heads,
        "num_layers": module.encoder_depth,
        "num_decoder_layers": module.decoder_depth,
        "vocab_size": module.vocab_size,
        "relative_attention_num_buckets": module.num_buckets,
        "relative_attention_max_distance": module.max_distance,
        "feed_forward_proj": f"gated-{gate}",
        "layer_norm_epsilon": module.epsilon,
        "dropout_rate": module.dropout,
        "tie_word_embeddings": module.scale_logits,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": 0,
    }


def _siglip_config(leaves: Leaves) -> dict[str, Any]:
    text = leaves.module.text
    return {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "vision_config": {"model_type": "siglip_vision_model"}
        | _tower_config(leaves.module.vision, leaves, "vision/pos_embedding"),
        "text_config": {
            "model_type": "siglip_text_model",
            "hidden_size": text.width,
            "num_hidden_layers": text.depth,
            "intermediate_size": text.mlp_dim,
            "num_attention_heads": text.num_heads,
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.max_length,
            "projection_size": text.embedding_dim,
            "hidden_act": hf.activation_name(text.activation),
            "layer_norm_eps": text.epsilon,
        },
    }


def _tower_config(module: models.ViT, leaves: Leaves, positions: str) -> dict[str, Any]:
    patches = leaves.shapes[positions].shape[1]
    if math.isqrt(patches) ** 2 != patches:
        raise ValueError(f"The ViT has {patches} positions, which make no square: transformers has none such.")
    return {
        "hidden_size": module.width,
        "num_hidden_layers": module.depth,
        "intermediate_size": module.mlp_dim,
        "num_attention_heads": module.num_heads,
        "patch_size": module.patch_size,
        "image_size": math.isqrt(patches) * module.patch_size,
        "num_channels": 3,
        "hidden_act": hf.activation_name(module.activation),
        "layer_norm_eps": module.epsilon,
    }


def _joined_class_token(leaves: Leaves) -> dict[str, Lazy]:
    """Token and positions as ViTModel has them: the token takes its position along, whose own row is 0 here."""
    token, patches = leaves.shapes["class_token"], leaves.shapes["pos_embedding"]
    shape = (1, 1 + patches.shape[1], patches.shape[2])

    def positions() -> np.ndarray:
        found = np.zeros(shape, patches.dtype)
        found[:, 1:] = leaves.read("pos_embedding")
        return found

    return {
        "embeddings.cls_token": Lazy(token.shape, token.dtype, lambda: leaves.read("class_token")),
        "embeddings.position_embeddings": Lazy(shape, patches.dtype, positions),
    }


# ------------------------------------------------------------------------------------------------ big_vision and T5X


def _big_vision(leaves: Leaves, file: pathlib.Path) -> None:
    module = leaves.module
    if isinstance(module, models.ViT):
        rules = big_vision.vit_rules(stacked=False, class_token=module.class_token)
    elif isinstance(module, models.SigLIP):
        rules = big_vision.two_towers_rules(image_stacked=False, text_stacked=False)
    else:
        raise ValueError(f"big_vision's format holds ViTs and SigLIP; got {type(module).__name__}.")
    tensors = {f"params/{name}": tensor for name, tensor in _laid_out(leaves, rules).items()}
    npz_files.write(file, _announced(tensors), lambda name: np.asarray(tensors[name]))


def _t5x(leaves: Leaves, place: pathlib.Path) -> None:
    module = leaves.module
    if not isinstance(module, models.MT5):
        raise ValueError(f"T5X's format holds an MT5; got {type(module).__name__}.")
    tensors = _laid_out(leaves, t5x.mt5_rules(module.bias_per_layer))
    t5x.write_directory(place, _announced(tensors), lambda name: np.asarray(tensors[name]))
    _describe(module, place)


def _describe(module: Any, place: pathlib.Path) -> None:
    """What these formats' files don't say (activation, epsilon, largest distance), for paligax to read back."""
    text = json.dumps(models.describe(module), indent=1) + "\n"
    (place / ARCHITECTURE).write_text(text, encoding="utf-8")


def _big_vision_directory(leaves: Leaves, place: pathlib.Path) -> None:
    _big_vision(leaves, place / NPZ)
    _describe(leaves.module, place)


_WRITERS: dict[str, Callable[[Leaves, pathlib.Path], None]] = {
    "hf": _hf,
    "big_vision": _big_vision_directory,
    "t5x": _t5x,
}


# ---------------------------------------------------------------------------------------------------------- shared


def _laid_out(leaves: Leaves, rules: tuple[Rule, ...]) -> dict[str, Lazy]:
    """Their names → tensors that are put together, each from the leaves that lie in it, when asked."""
    if lacking := set(leaves.shapes) - {rule.ours for rule in rules} - {"class_token", "pos_embedding"}:
        raise AssertionError(f"No rule for {', '.join(sorted(lacking))}.")
    parts: dict[str, list[tuple[Layout, int]]] = {}
    for rule in rules:
        layout = Layout(rule, leaves.shapes[rule.ours].shape)
        for layer, name in enumerate(layout.names):
            parts.setdefault(name, []).append((layout, layer))
    cached = _Last(leaves.read)

    def tensor(name: str) -> Lazy:
        shape, dtype = parts[name][0][0].foreign_shape, np.dtype(leaves.shapes[parts[name][0][0].rule.ours].dtype)

        def read() -> np.ndarray:
            out = np.empty(shape, dtype)
            for layout, layer in parts[name]:
                own = cached(layout.rule.ours)
                layout.view(out)[...] = own[layer] if layout.rule.stacked else own
            return out

        return Lazy(shape, dtype, read)

    return {name: tensor(name) for name in parts}


class _Last:
    """Reads leaves and keeps the one read last: a stacked one is asked for once a layer."""

    def __init__(self, read: Callable[[str], np.ndarray]):
        self._read, self._name, self._value = read, None, None

    def __call__(self, name: str) -> np.ndarray:
        if name != self._name:
            self._value = None
            self._name, self._value = name, np.asarray(self._read(name))
        return self._value


def _announced(tensors: Mapping[str, Any]) -> dict[str, tuple[tuple[int, ...], Any]]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
