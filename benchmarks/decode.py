"""Tokens a second of an mT5-small: paligax beside transformers' generate (torch), with the same weights, in turns.

    pip install -e .[parity]
    python benchmarks/decode.py --json=decode.json

Both run in float32 on all cores, the encoder included. EOS is made improbable, so that both produce all tokens; which
ones is compared. torch runs as generate does by itself. For greedy decoding of one row and of a batch, and for
beam search (as many hypotheses as the batch has rows), keys are:

    NAME_tokens_per_second, NAME_torch_tokens_per_second     of the median round; with beams, of the best ones
    NAME_ratio                                               paligax's ÷ torch's: above 1 paligax is faster
    NAME_equal                                               share of the tokens that are the same
    ratio                                                    of the batch
"""

import argparse
import gc
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import numpy as np

import paligax
from paligax.inference.generation import Decoding, generate


def torch_model():
    """An mT5-small with random weights that never ends."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.MT5ForConditionalGeneration(transformers.MT5Config()).eval()  # its defaults are mT5-small's
    head = torch.randn_like(model.lm_head.weight) * 0.05
    head[1] = 0.0
    model.lm_head.weight = torch.nn.Parameter(head)
    return model


def same_model(model):
    """(module, params) by way of a directory that transformers saves."""
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory)
        loaded = paligax.load(directory)
        params = jax.tree.map(lambda x: jax.device_put(np.array(x)), loaded.params)
    return loaded.module.copy(unroll=loaded.module.decoder_depth), params


def seconds(run: Callable[[], np.ndarray]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def compare(name: str, ours: Callable, theirs: Callable, rounds: int) -> dict[str, float]:
    """Both produce int32[B, T]; the first call of each is not measured."""
    tokens, other = ours(), theirs()
    times = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    mine, torchs = (tokens.size / statistics.median(column) for column in zip(*times, strict=True))
    print(f"{name}: {mine:,.1f} tokens/s, torch {torchs:,.1f}: {mine / torchs:.2f}", flush=True)
    return {
        f"{name}_tokens_per_second": mine,
        f"{name}_torch_tokens_per_second": torchs,
        f"{name}_ratio": mine / torchs,
        f"{name}_equal": float((tokens == other).mean()),
    }


def measure(arguments: argparse.Namespace) -> dict:
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    model = torch_model()
    module, params = same_model(model)
    gc.collect()
    length, beams = arguments.target_length, arguments.num_beams
    rng = np.random.default_rng(0)
    rows = rng.integers(2, 250_000, (arguments.batch_size, arguments.input_length), dtype=np.int32)

    def runs(inputs: np.ndarray, options: Decoding, **theirs) -> tuple[Callable, Callable]:
        ids = torch.tensor(inputs.astype(np.int64))
        how = dict(attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=length) | theirs

        def our_tokens() -> np.ndarray:
            return np.asarray(generate(module, params, (inputs,), options, max_length=length))[:, 0]

        def torch_tokens() -> np.ndarray:
            with torch.inference_mode():
                return model.generate(ids, **how).numpy()[:, 1 : length + 1]

        return our_tokens, torch_tokens

    search = Decoding(num_beams=beams, length_penalty=1.0, early_stopping=False, beam_form="transformers")
    few = rows[: max(1, len(rows) // beams)]
    greedy = Decoding()
    found = compare("one_row", *runs(rows[:1], greedy), arguments.rounds)
    found |= compare("batch", *runs(rows, greedy), arguments.rounds)
    beam_options = dict(num_beams=beams, length_penalty=1.0, early_stopping=False)
    found |= compare("beams", *runs(few, search, **beam_options), arguments.rounds)
    return {
        "ratio": found["batch_ratio"],
        **found,
        "batch_size": arguments.batch_size,
        "input_length": arguments.input_length,
        "target_length": length,
        "num_beams": beams,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "rounds": arguments.rounds,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "torch": torch.__version__,
    }


def use_huge_pages() -> None:
    """Starts this program anew with glibc's malloc on huge pages, for both sides: as `make quickstart` does."""
    setting = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | setting)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--input_length", type=int, default=64)
    parser.add_argument("--target_length", type=int, default=16)
    parser.add_argument("--num_beams", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=pathlib.Path, help="where to write the result")
    arguments = parser.parse_args(words)
    result = measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        print(f"{name:<32} {value:,.4g}" if isinstance(value, float) else f"{name:<32} {value}")


if __name__ == "__main__":
    use_huge_pages()
    main(sys.argv[1:])
