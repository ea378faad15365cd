"""big_vision's parameter trees: ViTs and SigLIP's two towers, known by their names, sizes read off their shapes.

Layers may be stacked ("encoderblock") or apart ("encoderblock_0", …). Old layouts are brought to the present one first
(Steiner et al.'s AugReg files among them): positions inside the encoder, modules numbered across their kinds, a class
token whose position lies in front of the patches', and a pool that lies beside the tower's own leaves.
"""

import math
import re
from typing import Any

import numpy as np

from paligax import models
from paligax.interop import hf_layouts
from paligax.interop.layouts import Rule
from paligax.interop.opened import Lazy, Opened, Tensors

_BLOCK = re.compile(r"(.*/)?encoderblock_(\d+)/")
_USUAL_SIDE = 224  # px, of models whose positions are computed and say nothing of it


def is_vit(tensors: Tensors) -> bool:
    """Whether these are a ViT's leaves."""
    return "embedding/kernel" in tensors and any(name.startswith("Transformer/") for name in tensors)


def is_two_towers(tensors: Tensors) -> bool:
    """Whether these are an image tower's and a text tower's leaves."""
    return "img/embedding/kernel" in tensors and "txt/pos_embedding" in tensors


def open_vit(place: str, tensors: Tensors) -> Opened:
    """Raises ValueError where the sizes can't be read off."""
    tensors = modern(tensors)
    module, side = _vit(place, tensors)
    if "pos_embedding" not in tensors:
        tensors["pos_embedding"] = _sines(module, side)
    elif module.class_token:
        tensors = _apart(place, tensors)
    unused = tuple(name for name in tensors if name.startswith(("head/", "pre_logits/", "MAPHead_0/")))
    kept = {name: tensors[name] for name in tensors if name not in unused}
    inputs = {"image": ((1, side, side, 3), np.float32)}
    return Opened(
        place, "its shapes say", module, inputs, vit_rules(_stacked(tensors), module.class_token), kept, unused
    )


def open_two_towers(place: str, tensors: Tensors) -> Opened:
    """SigLIP. Raises ValueError where the sizes can't be read off, or the towers are others than SigLIP's."""
    image, text = (
        modern({name.removeprefix(below): tensors[name] for name in tensors if name.startswith(below)})
        for below in ("img/", "txt/")
    )
    vision, side = _vit(place, image)
    if "MAPHead_0/probe" not in image or vision.class_token:
        raise ValueError(f"{place!r}: its image tower has no attention pool as SigLIP's has.")
    if "pos_embedding" not in image:
        image["pos_embedding"] = _sines(vision, side)
    if "Encoder_0/pos_embedding" in text:  # added twice in some early files
        first, second = text["pos_embedding"], text.pop("Encoder_0/pos_embedding")
        text["pos_embedding"] = Lazy(first.shape, first.dtype, lambda: np.asarray(first) + np.asarray(second))
    blocks = _block_shapes(place, text, "Encoder_0/")
    tower = models.TextTower(
        width=_shape(place, text, "Embed_0/embedding", 2)[1],
        vocab_size=_shape(place, text, "Embed_0/embedding", 2)[0],
        max_length=_shape(place, text, "pos_embedding", 3)[1],
        embedding_dim=_shape(place, text, "head/kernel", 2)[1],
        **blocks,
    )
    rules = two_towers_rules(_stacked(image), _stacked(text))
    whole = {f"img/{n}": image[n] for n in image} | {f"txt/{n}": text[n] for n in text}
    whole |= {name: tensors[name] for name in tensors if not name.startswith(("img/", "txt/"))}
    inputs = {"image": ((1, side, side, 3), np.float32), "text": ((1, tower.max_length), np.int32)}
    return Opened(place, "its shapes say", models.SigLIP(vision, tower), inputs, rules, whole)


def what_a_file_cannot_say(module: Any) -> str:
    """What a model has that big_vision's models have otherwise and its files don't name; "" where there is nothing."""
    towers = [module] if isinstance(module, models.ViT) else [module.vision, module.text]
    activations = {f"activation {tower.activation}" for tower in towers if tower.activation != "gelu_tanh"}
    epsilons = {f"epsilon {tower.epsilon}" for tower in towers if tower.epsilon != 1e-6}
    return ", ".join(sorted(activations | epsilons))


def modern(tensors: Tensors) -> dict[str, Any]:
    """The same leaves under the names that big_vision's models have today."""
    found = {_renumbered(name, tensors): tensors[name] for name in tensors}
    for old in ("Transformer/posembed_input/pos_embedding", "Transformer/pos_embedding"):
        if old in found:
            found["pos_embedding"] = found.pop(old)
    if "probe" in found:
        pool = ("probe", "MlpBlock_0/", "MultiHeadDotProductAttention_0/", "LayerNorm_0/")
        found = {f"MAPHead_0/{n}" if n.startswith(pool) else n: found[n] for n in found}
    return found


def _renumbered(name: str, tensors: Tensors) -> str:
    """Old flax numbered the modules of a block one after another, today's numbers each kind for itself."""
    parts = name.split("/")
    for i, part in enumerate(parts):
        kind, _, number = part.rpartition("_")
        if kind[:1].isupper() and number.isdigit() and int(number):
            parent = "/".join([*name.split("/")[:i], ""])
            pattern = re.compile(re.escape(f"{parent}{kind}_") + r"(\d+)(/|$)")
            numbers = sorted({int(match.group(1)) for other in tensors if (match := pattern.match(other))})
            parts[i] = f"{kind}_{numbers.index(int(number))}"
    return "/".join(parts)


def _vit(place: str, tensors: Tensors) -> tuple[models.ViT, int]:
    """The tower, and the side in px that its positions are for."""
    patch, other, channels, width = _shape(place, tensors, "embedding/kernel", 4)
    if patch != other or channels != 3:
        raise ValueError(f"{place!r}: its patches are {patch}×{other}×{channels}; expected square ones of 3 colours.")
    has_token = "cls" in tensors
    module = models.ViT(
        width=width, patch_size=patch, class_token=has_token, **_block_shapes(place, tensors, "Transformer/")
    )
    if "pos_embedding" not in tensors:
        return module, _USUAL_SIDE // patch * patch
    rows = _shape(place, tensors, "pos_embedding", 3)[1]
    grid = math.isqrt(rows)
    if grid * grid != rows and not (has_token and math.isqrt(rows - 1) ** 2 == rows - 1):
        raise ValueError(f"{place!r}: its {rows} positions make no square.")
    return module, grid * patch


def _apart(place: str, tensors: Tensors) -> dict[str, Any]:
    """A class token takes its position along, where it has one."""
    positions = tensors["pos_embedding"]
    if math.isqrt(positions.shape[1]) ** 2 == positions.shape[1]:
        return dict(tensors)
    try:
        split = hf_layouts.split_class_token(tensors["cls"], positions)
    except ValueError as error:
        raise ValueError(f"{place!r}: {error}.") from error
    renamed = {"cls": split[hf_layouts.PLACED_TOKEN], "pos_embedding": split[hf_layouts.PATCH_POSITIONS]}
    return {**tensors, **renamed}


def _sines(module: models.ViT, side: int) -> Lazy:
    grid = side // module.patch_size
    shape = (1, grid * grid, module.width)
    return Lazy(shape, np.float32, lambda: np.asarray(models.vit.sincos2d(grid, grid, module.width))[None])


def _block_shapes(place: str, tensors: Tensors, encoder: str) -> dict[str, int]:
    """Depth, heads and MLP width, from the shapes of the encoder's first block."""
    if _stacked(tensors):
        depth, heads = _shape(place, tensors, f"{encoder}encoderblock/{_QUERY}", 4)[0::2]
        mlp_dim = _shape(place, tensors, f"{encoder}encoderblock/{_MLP}", 3)[2]
    else:
        depth = 1 + max((int(match.group(2)) for name in tensors if (match := _BLOCK.match(name))), default=0)
        heads = _shape(place, tensors, f"{encoder}encoderblock_0/{_QUERY}", 3)[1]
        mlp_dim = _shape(place, tensors, f"{encoder}encoderblock_0/{_MLP}", 2)[1]
    return dict(depth=depth, num_heads=heads, mlp_dim=mlp_dim)


def _stacked(tensors: Tensors) -> bool:
    return any("encoderblock/" in name for name in tensors)


def _shape(place: str, tensors: Tensors, name: str, axes: int) -> tuple[int, ...]:
    if name not in tensors or len(tensors[name].shape) != axes or 0 in tensors[name].shape:
        got = list(tensors[name].shape) if name in tensors else "nothing"
        raise ValueError(f"{place!r}: expected {name} with {axes} axes, got {got}; it has {', '.join(_top(tensors))}.")
    return tensors[name].shape


def _top(tensors: Tensors) -> list[str]:
    return sorted({name.split("/")[0] for name in tensors})[:20]


# -------------------------------------------------------------------------------------------------- where leaves lie

_ATTENTION, _QUERY = "MultiHeadDotProductAttention_0", "MultiHeadDotProductAttention_0/query/kernel"
_MLP = "MlpBlock_0/Dense_0/kernel"
_PROJECTIONS = ("query", "key", "value", "out")


def vit_rules(stacked: bool, class_token: bool = False) -> tuple[Rule, ...]:
    """Of big_vision's models.vit without its head."""
    rules = [
        *_pairs("embedding", "embedding", ("kernel", "bias")),
        Rule("pos_embedding", "pos_embedding"),
        *_block_rules("Transformer/encoderblock", stacked),
        *_pairs("norm", "Transformer/encoder_norm", ("scale", "bias")),
    ]
    return (*rules, Rule("class_token", "cls")) if class_token else tuple(rules)


def two_towers_rules(image_stacked: bool, text_stacked: bool) -> tuple[Rule, ...]:
    """Of big_vision's two_towers as SigLIP has them."""
    pool = [Rule("pool/probe", "img/MAPHead_0/probe"), *_inner_rules("pool/", "img/MAPHead_0/", 0)]
    text = [
        Rule("token_embedder", "Embed_0/embedding"),
        Rule("pos_embedding", "pos_embedding"),
        *_block_rules("Encoder_0/encoderblock", text_stacked),
        *_pairs("norm", "Encoder_0/encoder_norm", ("scale", "bias")),
        *_pairs("head", "head", ("kernel", "bias")),
    ]
    return (
        *hf_layouts.below("vision/", "img/", vit_rules(image_stacked)),
        *pool,
        *hf_layouts.below("text/", "txt/", text),
        Rule("logit_scale", "t", "1 ->"),
        Rule("logit_bias", "b", "1 ->"),
    )


def _block_rules(block: str, stacked: bool) -> list[Rule]:
    block += "/" if stacked else "_{i}/"
    return [
        *_pairs("blocks/attention_norm", f"{block}LayerNorm_0", ("scale", "bias")),
        *_inner_rules("blocks/", block, 1),
    ]


def _inner_rules(ours: str, theirs: str, norm: int) -> list[Rule]:
    """Attention and MLP, and the norm between them: the block's second, the pool's first."""
    rules = _pairs(f"{ours}mlp_norm" if norm else f"{ours}norm", f"{theirs}LayerNorm_{norm}", ("scale", "bias"))
    for name in _PROJECTIONS:
        rules += _pairs(f"{ours}attention/{name}", f"{theirs}{_ATTENTION}/{name}", ("kernel", "bias"))
    for number, name in enumerate(("wi", "wo")):
        rules += _pairs(f"{ours}mlp/{name}", f"{theirs}MlpBlock_0/Dense_{number}", ("kernel", "bias"))
    return rules


def _pairs(ours: str, theirs: str, names: tuple[str, ...]) -> list[Rule]:
    return [Rule(f"{ours}/{name}", f"{theirs}/{name}") for name in names]
