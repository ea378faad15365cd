"""Where our leaves lie in transformers' tensors: the tables that reading and writing share.

Of MT5ForConditionalGeneration (T5 v1.1 and umT5 alike), SiglipVisionModel, SiglipModel and ViTModel.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from paligax.interop.layouts import Rule
from paligax.interop.opened import Lazy

HEAD = "lm_head.weight"
# ViTModel adds a position to its class token and keeps all positions in one array; ours has them apart.
PATCH_POSITIONS, PLACED_TOKEN = "positions of the patches", "class token at its position"


def mt5_rules(bias_per_layer: bool = False, tied: bool = False) -> tuple[Rule, ...]:
    """Of MT5ForConditionalGeneration; "tied" where the embedding is the output head too, which ours never is."""
    rules = [
        Rule("token_embedder", "shared.weight"),
        Rule("logits/kernel", "shared.weight" if tied else HEAD, "v d -> d v"),
    ]
    biased = "{i}" if bias_per_layer else "0"
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
            Rule(f"{stack}_relpos", f"{stack}.block.{biased}.layer.0.SelfAttention.relative_attention_bias.weight"),
        ]
    return tuple(rules)


def siglip_vision_rules() -> tuple[Rule, ...]:
    """Of SiglipVisionModel's tower; its pooling head is not part of a ViT of ours."""
    return (
        Rule("embedding/kernel", "embeddings.patch_embedding.weight", "d c h w -> h w c d"),
        Rule("embedding/bias", "embeddings.patch_embedding.bias"),
        Rule("pos_embedding", "embeddings.position_embedding.weight", "p d -> 1 p d"),
        *_siglip_block_rules(),
        *_norm_rules("norm", "post_layernorm"),
    )


def siglip_rules() -> tuple[Rule, ...]:
    """Of SiglipModel: both towers, the image tower's pool, scale and bias."""
    head, packed = "vision_model.head", ("query", "key", "value")
    pool = [Rule("pool/probe", f"{head}.probe"), *_norm_rules("pool/norm", f"{head}.layernorm")]
    for number, name in enumerate(packed):
        part, where = (number, len(packed)), f"{head}.attention.in_proj"
        pool.append(Rule(f"pool/attention/{name}/kernel", f"{where}_weight", "(n k) d -> d n k", part))
        pool.append(Rule(f"pool/attention/{name}/bias", f"{where}_bias", "(n k) -> n k", part))
    pool += _out_rules("pool/attention", f"{head}.attention.out_proj")
    pool += _mlp_rules("pool/mlp", {"wi": f"{head}.mlp.fc1", "wo": f"{head}.mlp.fc2"})
    text = [
        Rule("token_embedder", "embeddings.token_embedding.weight"),
        Rule("pos_embedding", "embeddings.position_embedding.weight", "p d -> 1 p d"),
        *_siglip_block_rules(),
        *_norm_rules("norm", "final_layer_norm"),
        Rule("head/kernel", "head.weight", "o i -> i o"),
        Rule("head/bias", "head.bias"),
    ]
    return (
        *below("vision/", "vision_model.", siglip_vision_rules()),
        *pool,
        *below("text/", "text_model.", text),
        Rule("logit_scale", "logit_scale", "1 ->"),
        Rule("logit_bias", "logit_bias", "1 ->"),
    )


def below(ours: str, theirs: str, rules: Iterable[Rule]) -> list[Rule]:
    """The same rules for leaves that lie further down on both sides."""
    return [dataclasses.replace(rule, ours=ours + rule.ours, theirs=theirs + rule.theirs) for rule in rules]


def _siglip_block_rules() -> list[Rule]:
    layer = "encoder.layers.{i}"
    attention = {name: f"{layer}.self_attn.{name[0]}_proj" for name in ("query", "key", "value")}
    mlp = {"wi": f"{layer}.mlp.fc1", "wo": f"{layer}.mlp.fc2"}
    return _block_rules(attention, f"{layer}.self_attn.out_proj", f"{layer}.layer_norm1", mlp, f"{layer}.layer_norm2")


def vit_rules() -> tuple[Rule, ...]:
    """Of ViTModel, its positions taken apart (see ``_vit``)."""
    layer = "encoder.layer.{i}"
    attention = {name: f"{layer}.attention.attention.{name}" for name in ("query", "key", "value")}
    mlp = {"wi": f"{layer}.intermediate.dense", "wo": f"{layer}.output.dense"}
    return (
        Rule("embedding/kernel", "embeddings.patch_embeddings.projection.weight", "d c h w -> h w c d"),
        Rule("embedding/bias", "embeddings.patch_embeddings.projection.bias"),
        Rule("pos_embedding", PATCH_POSITIONS),
        Rule("class_token", PLACED_TOKEN),
        *_block_rules(
            attention, f"{layer}.attention.output.dense", f"{layer}.layernorm_before", mlp, f"{layer}.layernorm_after"
        ),
        *_norm_rules("norm", "layernorm"),
    )


def _block_rules(
    attention: Mapping[str, str], out: str, first_norm: str, mlp: Mapping[str, str], second_norm: str
) -> list[Rule]:
    rules = _norm_rules("blocks/attention_norm", first_norm) + _norm_rules("blocks/mlp_norm", second_norm)
    for ours, theirs in attention.items():
        rules.append(Rule(f"blocks/attention/{ours}/kernel", f"{theirs}.weight", "(n k) d -> d n k"))
        rules.append(Rule(f"blocks/attention/{ours}/bias", f"{theirs}.bias", "(n k) -> n k"))
    return rules + _out_rules("blocks/attention", out) + _mlp_rules("blocks/mlp", mlp)


def _out_rules(ours: str, theirs: str) -> list[Rule]:
    kernel = Rule(f"{ours}/out/kernel", f"{theirs}.weight", "d (n k) -> n k d")
    return [kernel, Rule(f"{ours}/out/bias", f"{theirs}.bias")]


def _mlp_rules(ours: str, theirs: Mapping[str, str]) -> list[Rule]:
    rules = []
    for name, layer in theirs.items():
        rules.append(Rule(f"{ours}/{name}/kernel", f"{layer}.weight", "o i -> i o"))
        rules.append(Rule(f"{ours}/{name}/bias", f"{layer}.bias"))
    return rules


def _norm_rules(ours: str, theirs: str) -> list[Rule]:
    return [Rule(f"{ours}/scale", f"{theirs}.weight"), Rule(f"{ours}/bias", f"{theirs}.bias")]


def split_class_token(token: Any, positions: Any) -> dict[str, Lazy]:
    """[1, 1, D] and [1, 1 + P, D] → the token at its position, and the patches' positions: as ours has them."""
    if len(positions.shape) != 3 or positions.shape[1] < 2 or tuple(token.shape) != (1, 1, positions.shape[2]):
        raise ValueError(f"a class token {list(token.shape)} doesn't fit positions {list(positions.shape)}")
    _, rows, width = positions.shape
    return {
        PLACED_TOKEN: Lazy((1, 1, width), token.dtype, lambda: np.asarray(token) + np.asarray(positions)[:, :1]),
        PATCH_POSITIONS: Lazy((1, rows - 1, width), positions.dtype, lambda: np.asarray(positions)[:, 1:]),
    }
