"""transformers' directories (config.json beside weights): which model of ours each is, where its leaves lie.

Names, shapes and defaults are those of transformers' MT5ForConditionalGeneration (T5 and umT5 alike),
SiglipVisionModel, SiglipModel and ViTModel. Weights lie in safetensors, in torch's .bin files, or in the
flax_model.msgpack of Flax classes, whose names and axes are brought to those of the others.
"""

import difflib
import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from paligax import models
from paligax.interop import hf_layouts, layouts, msgpack_files, native, torch_files
from paligax.interop.opened import Lazy, Opened, Tensors
from paligax.interop.weight_files import INDEX_ENDING
from paligax.interop.weight_files import Tensors as Safetensors

_POSITION_IDS = r".*\bposition_ids"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
TORCH_WEIGHTS, FLAX_WEIGHTS = "pytorch_model.bin", "flax_model.msgpack"
_MAX_CONFIG = 1 << 20  # bytes
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}


def activation_name(ours: str) -> str:
    """What a configuration calls an activation of ``paligax.models.layers.ACTIVATIONS``."""
    return {"gelu_tanh": "gelu_pytorch_tanh"}.get(ours, ours)


def is_directory(path: pathlib.Path) -> bool:
    """Whether this looks like a model that transformers saved."""
    return (path / CONFIG).is_file()


def is_weight_file(path: pathlib.Path) -> bool:
    """Whether this is a file of weights beside the configuration that says what they are."""
    known = (WEIGHTS, TORCH_WEIGHTS, FLAX_WEIGHTS, WEIGHTS + INDEX_ENDING, TORCH_WEIGHTS + INDEX_ENDING)
    return path.name in known and path.is_file() and is_directory(path.parent)


def open_directory(path: pathlib.Path) -> Opened:
    """Raises FileNotFoundError and ValueError where files are missing, damaged, or of a family that isn't known."""
    config = read_config(path / CONFIG)
    kind = config.get("model_type")
    if kind not in _FAMILIES:
        near = difflib.get_close_matches(str(kind), _FAMILIES, n=1)
        raise ValueError(
            f"{str(path / CONFIG)!r} is of model_type {kind!r}; paligax reads {', '.join(_FAMILIES)}"
            + (f" (the nearest is {near[0]})." if near else ".")
        )
    return _FAMILIES[kind](str(path), config, _tensors(path))


def read_config(path: pathlib.Path) -> dict[str, Any]:
    if path.stat().st_size > _MAX_CONFIG:
        raise ValueError(f"{str(path)!r} has {path.stat().st_size} bytes, which no configuration has: refused.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is no valid JSON ({error}): copy it again.") from error
    if not isinstance(config, dict):
        raise ValueError(f"{str(path)!r} holds no JSON object: copy it again.")
    return config


def _tensors(path: pathlib.Path) -> Tensors:
    readers: dict[str, Callable[[pathlib.Path], Tensors]] = {
        WEIGHTS: Safetensors,
        WEIGHTS + INDEX_ENDING: Safetensors,
        TORCH_WEIGHTS: torch_files.open_file,
        TORCH_WEIGHTS + INDEX_ENDING: torch_files.open_file,
        FLAX_WEIGHTS: lambda file: _as_torch_names(msgpack_files.read_tree(file)),
    }
    for name, read in readers.items():
        if (path / name).is_file():
            return read(path / name)
    there = ", ".join(sorted(p.name for p in path.iterdir())[:20])
    raise FileNotFoundError(f"{str(path)!r} has none of {', '.join(readers)}; it has {there}.")


def _as_torch_names(tree: Mapping[str, Any]) -> Tensors:
    """Leaves of transformers' Flax classes under the names, and with the axes, of its torch classes."""
    found: dict[str, Any] = {}
    for name, leaf in native.flatten(tree):
        *parents, last = name.split(native.SEPARATOR)
        if not hasattr(leaf, "shape"):
            raise ValueError(f"{FLAX_WEIGHTS}: {name!r} is a {type(leaf).__name__}, expected an array.")
        if last == "kernel":
            leaf = Lazy.transposed(leaf, 3, 2, 0, 1) if len(leaf.shape) == 4 else Lazy.transposed(leaf)
        last = "weight" if last in ("kernel", "embedding", "scale") else last
        found[".".join([*parents, last])] = leaf
    return found


# ------------------------------------------------------------------------------------------------------------ mT5


def _mt5(place: str, config: Mapping[str, Any], tensors: Tensors) -> Opened:
    given = _Config(place, config)
    kind = config["model_type"]
    gate = given.text("feed_forward_proj", "gated-gelu")
    if not gate.startswith("gated-"):
        raise ValueError(f"{place!r} has feed_forward_proj {gate!r}; paligax's mT5 is the gated one (T5 v1.1).")
    depth = given.number("num_layers", 8)
    module = models.MT5(
        width=given.number("d_model", 512),
        mlp_dim=given.number("d_ff", 1024),
        encoder_depth=depth,
        decoder_depth=depth if config.get("num_decoder_layers") is None else given.number("num_decoder_layers", depth),
        num_heads=given.number("num_heads", 6),
        head_dim=given.number("d_kv", 64),
        vocab_size=given.number("vocab_size", models.mt5.VOCAB_SIZE),
        num_buckets=given.number("relative_attention_num_buckets", 32),
        max_distance=given.number("relative_attention_max_distance", 128),
        bias_per_layer=kind == "umt5",
        # mT5's head is never scaled; in T5 and umT5 it is where head and embedding were trained as one.
        scale_logits=kind != "mt5" and given.flag("scale_decoder_outputs", given.flag("tie_word_embeddings", True)),
        activation=given.activation("gelu_new" if gate == "gated-gelu" else gate.removeprefix("gated-")),
        epsilon=given.share("layer_norm_epsilon", 1e-6),
    )
    inputs = {"inputs": ((1, 1), np.int32), "targets": ((1, 1), np.int32)}
    aliases = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    rules = hf_layouts.mt5_rules(module.bias_per_layer, tied=hf_layouts.HEAD not in tensors)
    return _foreign(place, module, inputs, rules, tensors, aliases)


# ------------------------------------------------------------------------------------------------------------ ViT


def _siglip_vision(place: str, config: Mapping[str, Any], tensors: Tensors) -> Opened:
    given = _Config(place, config)
    module = _tower(given, "gelu_pytorch_tanh", 1e-6, class_token=False)
    tower = _unprefixed(tensors, "vision_model.")
    return _foreign(place, module, _image(given), hf_layouts.siglip_vision_rules(), tower, (r"head\..*", _POSITION_IDS))


def _siglip(place: str, config: Mapping[str, Any], tensors: Tensors) -> Opened:
    given = _Config(place, config)
    vision, text = given.part("vision_config"), given.part("text_config")
    width = text.number("hidden_size", 768)
    module = models.SigLIP(
        vision=_tower(vision, "gelu_pytorch_tanh", 1e-6, class_token=False),
        text=models.TextTower(
            width=width,
            depth=text.number("num_hidden_layers", 12),
            mlp_dim=text.number("intermediate_size", 3072),
            num_heads=text.number("num_attention_heads", 12),
            vocab_size=text.number("vocab_size", 32_000),
            max_length=text.number("max_position_embeddings", 64),
            embedding_dim=text.number("projection_size", width),
            activation=text.activation(text.text("hidden_act", "gelu_pytorch_tanh")),
            epsilon=text.share("layer_norm_eps", 1e-6),
        ),
    )
    inputs = {**_image(vision), "text": ((1, module.text.max_length), np.int32)}
    return _foreign(place, module, inputs, hf_layouts.siglip_rules(), tensors, (_POSITION_IDS,))


def _vit(place: str, config: Mapping[str, Any], tensors: Tensors) -> Opened:
    given = _Config(place, config)
    tower = dict(_unprefixed(tensors, "vit."))
    module = _tower(given, "gelu", 1e-12, class_token=True)
    try:
        token, positions = tower.pop("embeddings.cls_token"), tower.pop("embeddings.position_embeddings")
        tower |= hf_layouts.split_class_token(token, positions)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{place!r} has no class token and positions as ViTModel has them ({error}).") from error
    unused = (r"pooler\..*", r"classifier\..*", _POSITION_IDS)
    return _foreign(place, module, _image(given), hf_layouts.vit_rules(), tower, unused)


def _image(given: "_Config") -> dict[str, tuple[tuple[int, ...], Any]]:
    size = given.side("image_size", 224)
    return {"image": ((1, size, size, 3), np.float32)}


def _tower(given: "_Config", activation: str, epsilon: float, class_token: bool) -> Any:
    return models.ViT(
        width=given.number("hidden_size", 768),
        depth=given.number("num_hidden_layers", 12),
        mlp_dim=given.number("intermediate_size", 3072),
        num_heads=given.number("num_attention_heads", 12),
        patch_size=given.side("patch_size", 16),
        activation=given.activation(given.text("hidden_act", activation)),
        epsilon=given.share("layer_norm_eps", epsilon),
        class_token=class_token,
    )


_FAMILIES: dict[str, Callable[[str, Mapping[str, Any], Tensors], Opened]] = {
    "mt5": _mt5,
    "t5": _mt5,
    "umt5": _mt5,
    "siglip": _siglip,
    "siglip_vision_model": _siglip_vision,
    "vit": _vit,
}


# ---------------------------------------------------------------------------------------------------------- shared


class _Config:
    """Entries of a foreign config.json, each checked where it is read."""

    def __init__(self, place: str, entries: Mapping[str, Any]):
        self._place, self._entries = place, entries

    def number(self, name: str, default: int) -> int:
        value = self._entries.get(name)
        value = default if value is None else value
        if type(value) is not int or not 0 < value < 1 << 24:
            raise ValueError(f"{self._place!r}: config.json says {name} = {value!r}; expected a positive whole number.")
        return value

    def side(self, name: str, default: int) -> int:
        """A size in pixels; two equal ones count as one."""
        value = self._entries.get(name, default)
        if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        return _Config(self._place, {name: value}).number(name, default)

    def part(self, name: str) -> "_Config":
        value = self._entries.get(name, {})
        if not isinstance(value, dict):
            raise ValueError(f"{self._place!r}: config.json says {name} = {value!r}; expected an object.")
        return _Config(f"{self._place} ({name})", value)

    def share(self, name: str, default: float) -> float:
        value = self._entries.get(name, default)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise ValueError(f"{self._place!r}: config.json says {name} = {value!r}; expected a number from 0 to 1.")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self._entries.get(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{self._place!r}: config.json says {name} = {value!r}; expected true or false.")
        return value

    def text(self, name: str, default: str) -> str:
        value = self._entries.get(name, default)
        if not isinstance(value, str):
            raise ValueError(f"{self._place!r}: config.json says {name} = {value!r}; expected a text.")
        return value

    def activation(self, name: str) -> str:
        if name not in _ACTIVATIONS:
            raise ValueError(f"{self._place!r} has activation {name!r}; known: {', '.join(_ACTIVATIONS)}.")
        return _ACTIVATIONS[name]


def _unprefixed(tensors: Mapping[str, np.ndarray], prefix: str) -> Mapping[str, np.ndarray]:
    """The tensors below a prefix that some versions write and others don't."""
    if any(name.startswith(prefix) for name in tensors):
        return {name.removeprefix(prefix): tensors[name] for name in tensors}
    return tensors


def _foreign(
    place: str,
    module: Any,
    inputs: Mapping[str, tuple[tuple[int, ...], Any]],
    rules: tuple[layouts.Rule, ...],
    tensors: Mapping[str, np.ndarray],
    unused: tuple[str, ...],
) -> Opened:
    patterns = [re.compile(pattern) for pattern in unused]
    known = tuple(name for name in tensors if any(pattern.fullmatch(name) for pattern in patterns))
    kept = {name: tensors[name] for name in tensors if name not in known}
    return Opened(place, "its config.json says", module, inputs, rules, kept, known)
