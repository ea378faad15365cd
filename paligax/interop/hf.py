"""transformers' directories (config.json beside safetensors): which model of ours each is, where its leaves lie.

Names, shapes and defaults are those of transformers' MT5ForConditionalGeneration, SiglipVisionModel and ViTModel.
"""

import dataclasses
import difflib
import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from paligax import models
from paligax.interop.layouts import Rule
from paligax.interop.weight_files import INDEX_ENDING, Tensors

CONFIG, WEIGHTS = "config.json", "model.safetensors"
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


@dataclasses.dataclass(frozen=True)
class Directory:
    """A directory that transformers saved, opened and not yet read.

    Attributes:
      place: its directory.
      module: our module of the same architecture.
      inputs: what ``module.init`` is given to know the shapes: name → (shape, dtype).
      rules: where the leaves lie.
      tensors: their name → array over the mapped file.
      unused: names of tensors that our module has no place for and needs none.
    """

    place: str
    module: Any
    inputs: Mapping[str, tuple[tuple[int, ...], Any]]
    rules: tuple[Rule, ...]
    tensors: Mapping[str, np.ndarray]
    unused: tuple[str, ...]


def is_directory(path: pathlib.Path) -> bool:
    """Whether this looks like a model that transformers saved."""
    return (path / CONFIG).is_file()


def open_directory(path: pathlib.Path) -> Directory:
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
    for name in (WEIGHTS, WEIGHTS + INDEX_ENDING):
        if (path / name).is_file():
            return Tensors(path / name)
    there = ", ".join(sorted(p.name for p in path.iterdir())[:20])
    raise FileNotFoundError(f"{str(path)!r} has neither {WEIGHTS} nor {WEIGHTS}{INDEX_ENDING}; it has {there}.")


# ------------------------------------------------------------------------------------------------------------ mT5


def mt5_rules() -> tuple[Rule, ...]:
    """Of MT5ForConditionalGeneration with a head of its own."""
    rules = [
        Rule("token_embedder", "shared.weight"),
        Rule("logits/kernel", "lm_head.weight", "v d -> d v"),
    ]
    for stack, feed_forward in (("encoder", 1), ("decoder", 2)):
        block = f"{stack}.block.{{i}}.layer"
        attentions = [("attention", f"{block}.0", "SelfAttention")]
        if stack == "decoder":
            attentions = [
                ("self_attention", f"{block}.0", "SelfAttention"),
                ("cross_attention", f"{block}.1", "EncDecAttention"),
            ]
        for ours, layer, theirs in attentions:
            rules += [
                Rule(f"{stack}/{ours}_norm/scale", f"{layer}.layer_norm.weight"),
                Rule(f"{stack}/{ours}/query/kernel", f"{layer}.{theirs}.q.weight", "(n k) d -> d n k"),
                Rule(f"{stack}/{ours}/key/kernel", f"{layer}.{theirs}.k.weight", "(n k) d -> d n k"),
                Rule(f"{stack}/{ours}/value/kernel", f"{layer}.{theirs}.v.weight", "(n k) d -> d n k"),
                Rule(f"{stack}/{ours}/out/kernel", f"{layer}.{theirs}.o.weight", "d (n k) -> n k d"),
            ]
        mlp = f"{block}.{feed_forward}"
        rules += [
            Rule(f"{stack}/mlp_norm/scale", f"{mlp}.layer_norm.weight"),
            Rule(f"{stack}/mlp/wi_0/kernel", f"{mlp}.DenseReluDense.wi_0.weight", "f d -> d f"),
            Rule(f"{stack}/mlp/wi_1/kernel", f"{mlp}.DenseReluDense.wi_1.weight", "f d -> d f"),
            Rule(f"{stack}/mlp/wo/kernel", f"{mlp}.DenseReluDense.wo.weight", "d f -> f d"),
            Rule(f"{stack}_norm/scale", f"{stack}.final_layer_norm.weight"),
            Rule(f"{stack}_relpos", f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
        ]
    return tuple(rules)


def _mt5(place: str, config: Mapping[str, Any], tensors: Tensors) -> Directory:
    given = _Config(place, config)
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
        activation=given.activation("gelu_new" if gate == "gated-gelu" else gate.removeprefix("gated-")),
        epsilon=given.share("layer_norm_epsilon", 1e-6),
    )
    inputs = {"inputs": ((1, 1), np.int32), "targets": ((1, 1), np.int32)}
    aliases = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    return _foreign(place, module, inputs, mt5_rules(), tensors, aliases)


# ------------------------------------------------------------------------------------------------------------ ViT


def siglip_vision_rules() -> tuple[Rule, ...]:
    """Of SiglipVisionModel's tower; its pooling head is not part of a ViT of ours."""
    layer = "encoder.layers.{i}"
    attention = {name: f"{layer}.self_attn.{name[0]}_proj" for name in ("query", "key", "value")}
    mlp = {"wi": f"{layer}.mlp.fc1", "wo": f"{layer}.mlp.fc2"}
    return (
        Rule("embedding/kernel", "embeddings.patch_embedding.weight", "d c h w -> h w c d"),
        Rule("embedding/bias", "embeddings.patch_embedding.bias"),
        Rule("pos_embedding", "embeddings.position_embedding.weight", "p d -> 1 p d"),
        *_block_rules(attention, f"{layer}.self_attn.out_proj", f"{layer}.layer_norm1", mlp, f"{layer}.layer_norm2"),
        *_norm_rules("norm", "post_layernorm"),
    )


def vit_rules() -> tuple[Rule, ...]:
    """Of ViTModel, its positions taken apart (see ``_vit``)."""
    layer = "encoder.layer.{i}"
    attention = {name: f"{layer}.attention.attention.{name}" for name in ("query", "key", "value")}
    mlp = {"wi": f"{layer}.intermediate.dense", "wo": f"{layer}.output.dense"}
    return (
        Rule("embedding/kernel", "embeddings.patch_embeddings.projection.weight", "d c h w -> h w c d"),
        Rule("embedding/bias", "embeddings.patch_embeddings.projection.bias"),
        Rule("pos_embedding", _PATCH_POSITIONS),
        Rule("class_token", _PLACED_TOKEN),
        *_block_rules(
            attention, f"{layer}.attention.output.dense", f"{layer}.layernorm_before", mlp, f"{layer}.layernorm_after"
        ),
        *_norm_rules("norm", "layernorm"),
    )


_PATCH_POSITIONS, _PLACED_TOKEN = "positions of the patches", "class token at its position"


def _block_rules(
    attention: Mapping[str, str], out: str, first_norm: str, mlp: Mapping[str, str], second_norm: str
) -> list[Rule]:
    rules = _norm_rules("blocks/attention_norm", first_norm) + _norm_rules("blocks/mlp_norm", second_norm)
    for ours, theirs in attention.items():
        rules.append(Rule(f"blocks/attention/{ours}/kernel", f"{theirs}.weight", "(n k) d -> d n k"))
        rules.append(Rule(f"blocks/attention/{ours}/bias", f"{theirs}.bias", "(n k) -> n k"))
    rules.append(Rule("blocks/attention/out/kernel", f"{out}.weight", "d (n k) -> n k d"))
    rules.append(Rule("blocks/attention/out/bias", f"{out}.bias"))
    for ours, theirs in mlp.items():
        rules.append(Rule(f"blocks/mlp/{ours}/kernel", f"{theirs}.weight", "o i -> i o"))
        rules.append(Rule(f"blocks/mlp/{ours}/bias", f"{theirs}.bias"))
    return rules


def _norm_rules(ours: str, theirs: str) -> list[Rule]:
    return [Rule(f"{ours}/scale", f"{theirs}.weight"), Rule(f"{ours}/bias", f"{theirs}.bias")]


def _siglip_vision(place: str, config: Mapping[str, Any], tensors: Tensors) -> Directory:
    given = _Config(place, config)
    tower = _unprefixed(tensors, "vision_model.")
    module = _tower(given, "gelu_pytorch_tanh", 1e-6, class_token=False)
    inputs = {"image": ((1, given.number("image_size", 224), given.number("image_size", 224), 3), np.float32)}
    return _foreign(place, module, inputs, siglip_vision_rules(), tower, (r"head\..*", r"embeddings\.position_ids"))


def _vit(place: str, config: Mapping[str, Any], tensors: Tensors) -> Directory:
    given = _Config(place, config)
    tower = dict(_unprefixed(tensors, "vit."))
    module = _tower(given, "gelu", 1e-12, class_token=True)
    size = given.number("image_size", 224)
    try:
        token, positions = tower.pop("embeddings.cls_token"), tower.pop("embeddings.position_embeddings")
        tower[_PLACED_TOKEN], tower[_PATCH_POSITIONS] = token + positions[:, :1], positions[:, 1:]
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{place!r} has no class token and positions as ViTModel has them ({error}).") from error
    inputs = {"image": ((1, size, size, 3), np.float32)}
    return _foreign(place, module, inputs, vit_rules(), tower, (r"pooler\..*", r"classifier\..*", ".*position_ids"))


def _tower(given: "_Config", activation: str, epsilon: float, class_token: bool) -> Any:
    return models.ViT(
        width=given.number("hidden_size", 768),
        depth=given.number("num_hidden_layers", 12),
        mlp_dim=given.number("intermediate_size", 3072),
        num_heads=given.number("num_attention_heads", 12),
        patch_size=given.number("patch_size", 16),
        activation=given.activation(given.text("hidden_act", activation)),
        epsilon=given.share("layer_norm_eps", epsilon),
        class_token=class_token,
    )


_FAMILIES: dict[str, Callable[[str, Mapping[str, Any], Tensors], Directory]] = {
    "mt5": _mt5,
    "t5": _mt5,
    "siglip_vision_model": _siglip_vision,
    "vit": _vit,
}


# ---------------------------------------------------------------------------------------------------------- shared


class _Config:
    """Entries of a foreign config.json, each checked where it is read."""

    def __init__(self, place: str, entries: Mapping[str, Any]):
        self._place, self._entries = place, entries

    def number(self, name: str, default: int) -> int:
        value = self._entries.get(name, default)
        if type(value) is not int or not 0 < value < 1 << 24:
            raise ValueError(f"{self._place!r}: config.json says {name} = {value!r}; expected a positive whole number.")
        return value

    def share(self, name: str, default: float) -> float:
        value = self._entries.get(name, default)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise ValueError(f"{self._place!r}: config.json says {name} = {value!r}; expected a number from 0 to 1.")
        return float(value)

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
    rules: tuple[Rule, ...],
    tensors: Mapping[str, np.ndarray],
    unused: tuple[str, ...],
) -> Directory:
    patterns = [re.compile(pattern) for pattern in unused]
    known = tuple(name for name in tensors if any(pattern.fullmatch(name) for pattern in patterns))
    return Directory(place, module, inputs, rules, {n: tensors[n] for n in tensors if n not in known}, known)
