"""Small random mT5s of transformers with what its ``generate`` answers: what decoding here must equal, token for token.

    python -m tests.inference.generated

writes the one that is committed under tests/inference/references/, so that decoding is tested where torch isn't
installed. Needs torch and transformers. Sizes are odd and all different; EOS is made likely, so that answers end.
"""

import pathlib

import numpy as np

from tests.interop import references

HERE = pathlib.Path(__file__).parent / "references"
EXPECTED = "generated.npz"
MAX_LENGTH = 11
# name → generate's own options
CASES = {
    "greedy": dict(),
    "beams_2": dict(num_beams=2, length_penalty=1.0, early_stopping=False),
    "beams_4_no_penalty": dict(num_beams=4, length_penalty=0.0, early_stopping=False),
    "beams_4_early": dict(num_beams=4, length_penalty=1.0, early_stopping=True),
    "beams_5_never": dict(num_beams=5, length_penalty=1.0, early_stopping="never"),
    "beams_3_long": dict(num_beams=3, length_penalty=2.5, early_stopping="never"),
    "beams_3_long_by_guess": dict(num_beams=3, length_penalty=2.5, early_stopping=False),
    "beams_4_short": dict(num_beams=4, length_penalty=-1.5, early_stopping="never"),
    "beams_7_early": dict(num_beams=7, length_penalty=0.6, early_stopping=True),
}


def mt5(directory, seed: int = 5, **changes) -> None:
    """Saves a model, and its answers to rows of different lengths: tokens/CASE, and scores/CASE of beams."""
    import torch
    import transformers

    torch.manual_seed(seed)
    sizes = dict(vocab_size=37, d_model=20, d_kv=6, d_ff=28, num_layers=3, num_decoder_layers=2, num_heads=3)
    sizes |= dict(dropout_rate=0.0, relative_attention_num_buckets=12, relative_attention_max_distance=17)
    config = transformers.MT5Config(**(sizes | dict(decoder_start_token_id=0) | changes))
    model = transformers.MT5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(0.15 * torch.randn_like(model.lm_head.weight))
    references._shake(model)
    with torch.no_grad():
        model.lm_head.weight[1] *= 1.5
    inputs = torch.randint(2, config.vocab_size, (6, 12))
    for row, length in enumerate((12, 2, 7, 1, 9, 12)):
        inputs[row, length - 1 :] = 0
        inputs[row, length - 1] = 1
    expected = {"inputs": inputs}
    for name, options in CASES.items():
        beams = options.get("num_beams", 1)
        how = options | dict(do_sample=False, max_new_tokens=MAX_LENGTH, num_return_sequences=beams)
        how |= dict(return_dict_in_generate=True, output_scores=True)
        out = model.generate(inputs, attention_mask=(inputs > 0).long(), **how)
        expected[f"tokens/{name}"] = _ended(out.sequences.numpy()).reshape(len(inputs), beams, MAX_LENGTH)
        if beams > 1:
            expected[f"scores/{name}"] = out.sequences_scores.reshape(len(inputs), beams)
    directory = pathlib.Path(directory)
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink()
    np.savez_compressed(directory / EXPECTED, **{name: np.asarray(value) for name, value in expected.items()})


def _ended(sequences: np.ndarray) -> np.ndarray:
    """Without the start token, and with zeros behind EOS, where beam search has repeated EOS."""
    tokens = np.zeros((len(sequences), MAX_LENGTH), np.int32)
    tokens[:, : sequences.shape[1] - 1] = sequences[:, 1:]
    behind = np.cumsum(tokens == 1, axis=1) - (tokens == 1) > 0
    return np.where(behind, 0, tokens)


if __name__ == "__main__":
    mt5(HERE / "mt5")
    print(sum(file.stat().st_size for file in (HERE / "mt5").iterdir()), "bytes")
