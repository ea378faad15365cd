"""Small random models of transformers, saved as it saves them, with what they compute: the truth to agree with.

    python tests/interop/references.py

writes those that are committed under tests/interop/references/, so that parity is tested where torch isn't installed.
Needs torch and transformers. Sizes are odd and all different, so that no two axes can be mistaken for each other.
"""

import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent / "references"
EXPECTED = "expected.npz"


def mt5(directory, seed: int = 0, kind: str = "mt5", own_head: bool = True, **changes) -> None:
    """An encoder-decoder; expected: encoder states, logits, losses a token, gradients of their mean."""
    import torch
    import transformers

    torch.manual_seed(seed)
    sizes = dict(vocab_size=37, d_model=20, d_kv=6, d_ff=28, num_layers=3, num_decoder_layers=2, num_heads=3)
    sizes |= dict(dropout_rate=0.0, relative_attention_num_buckets=12, relative_attention_max_distance=17)
    sizes |= dict(decoder_start_token_id=0)
    config, model = {
        "mt5": (transformers.MT5Config, transformers.MT5ForConditionalGeneration),
        "umt5": (transformers.UMT5Config, transformers.UMT5ForConditionalGeneration),
        "t5": (transformers.T5Config, transformers.T5ForConditionalGeneration),
    }[kind]
    model = model(config(**(sizes | dict(feed_forward_proj="gated-gelu") | changes)))
    if own_head:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    _shake(model)
    inputs = torch.tensor([[5, 9, 3, 30, 12, 7, 36, 8, 2, 11, 4, 1], [6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]])
    targets = torch.tensor([[3, 8, 20, 5, 1], [36, 1, 0, 0, 0]])
    there = targets > 0
    out = model(input_ids=inputs, attention_mask=(inputs > 0).long(), labels=targets)  # it shifts them right
    logprobs = torch.log_softmax(out.logits, -1)
    losses = -logprobs.gather(-1, targets[..., None])[..., 0] * there
    (losses.sum() / there.sum()).backward()
    gradients = {f"gradient/{name}": p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    _save(model, directory, inputs=inputs, targets=targets, states=out.encoder_last_hidden_state, logits=out.logits,
          losses=losses, **gradients)  # fmt: skip


def siglip_vision(directory, seed: int = 0, **changes) -> None:
    """An image tower; expected: tokens after the last norm."""
    import torch
    import transformers

    torch.manual_seed(seed)
    model = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**(_vision() | changes)))
    _shake(model)
    image = torch.rand(2, 3, model.config.image_size, model.config.image_size) * 2 - 1
    _save(model, directory, image=image.permute(0, 2, 3, 1), tokens=model(image).last_hidden_state)


def siglip(directory, seed: int = 0, **changes) -> None:
    """Both towers; expected: their embeddings and the logits of every pair."""
    import torch
    import transformers

    torch.manual_seed(seed)
    text = dict(hidden_size=24, intermediate_size=29, num_hidden_layers=2, num_attention_heads=3, vocab_size=31)
    text |= dict(max_position_embeddings=9, projection_size=20, layer_norm_eps=1e-4)
    config = transformers.SiglipConfig(vision_config=_vision() | changes, text_config=text | changes)
    model = transformers.SiglipModel(config)
    _shake(model)
    image = torch.rand(3, 3, 21, 21) * 2 - 1
    ids = torch.randint(0, 31, (4, 9))
    out = model(input_ids=ids, pixel_values=image)
    _save(model, directory, image=image.permute(0, 2, 3, 1), text=ids, logits=out.logits_per_image,
          image_embeddings=out.image_embeds, text_embeddings=out.text_embeds)  # fmt: skip


def vit(directory, seed: int = 0, **changes) -> None:
    """A classifier's tower with its class token; expected: all tokens."""
    import torch
    import transformers

    torch.manual_seed(seed)
    model = transformers.ViTModel(transformers.ViTConfig(**(_vision() | dict(layer_norm_eps=1e-3) | changes)))
    _shake(model)
    image = torch.rand(2, 3, 21, 21) * 2 - 1
    _save(model, directory, image=image.permute(0, 2, 3, 1), tokens=model(image).last_hidden_state)


def _vision() -> dict:
    sizes = dict(hidden_size=20, intermediate_size=33, num_hidden_layers=3, num_attention_heads=5)
    return sizes | dict(image_size=21, patch_size=7, attention_probs_dropout_prob=0.0)


def _shake(model) -> None:
    """Norms, offsets and positions start at ones and zeros, which would hide that they lie in the wrong place."""
    import torch

    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)


def _save(model, directory, **expected) -> None:
    model.save_pretrained(directory)
    arrays = {name: np.asarray(getattr(value, "detach", lambda v=value: v)()) for name, value in expected.items()}
    np.savez(pathlib.Path(directory) / EXPECTED, **arrays)


MODELS = {
    "mt5": mt5,
    "mt5_tied": lambda directory, **changes: mt5(directory, own_head=False, **changes),
    "umt5": lambda directory, **changes: mt5(directory, kind="umt5", own_head=False, **changes),
    "t5": lambda directory, **changes: mt5(directory, **(dict(kind="t5", tie_word_embeddings=False) | changes)),
    "siglip_vision": siglip_vision,
    "siglip": siglip,
    "vit": vit,
}


if __name__ == "__main__":
    for name in sys.argv[1:] or MODELS:
        MODELS[name](HERE / name)
        (HERE / name / "generation_config.json").unlink(missing_ok=True)
        print(name, sum(file.stat().st_size for file in (HERE / name).iterdir()), "bytes")
