"""PaLI on one accelerator: training step, attention forms, decoding; needs jax, flax, optax and orbax-checkpoint alone.

    python benchmarks/gpu.py --model=3b --batch_sizes=16,32,64 --json=gpu.json

Batches are made up: neither TensorFlow nor seqio is imported. Where torch and transformers are installed, a PaliGemma
of like size takes the same tokens beside it. Keys:

    device, jax, date
    steps          one entry a batch size that fits: what benchmarks/step.py measures (step_seconds, mfu, …), or "error"
    best           the entry with the most examples a second
    paligemma      {"step_seconds", "mfu", "batch_size", …} of transformers' model, or null
    attention      form → {"forward_milliseconds", "gradient_milliseconds", "difference"}: of an image tower's layer,
                   and of the text encoder's with its bias; the difference is that from dense, by its largest number
    decode         {"tokens_per_second", "batch_size", "length"}: greedy, over the cache, no row ends early
"""

import argparse
import datetime
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import step as step_benchmark

from paligax import models
from paligax.models.attention import RelativeBias, attention
from paligax.training import flops

# PaLI-3B's: (tokens, heads, head size, whether there is a bias)
ATTENTION = {"vision_588px": (1764, 16, 104, False), "encoder_588px": (1792, 16, 64, True)}
FORMS = ("dense", "chunked", "cudnn", "splash")


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Median time of a call that returns arrays, after two that aren't counted."""
    times = []
    for i in range(repeats + 2):
        began = time.perf_counter()
        jax.block_until_ready(run())
        if i >= 2:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def steps(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The train step at each batch size; one that doesn't fit says so."""
    found = []
    for batch_size in arguments.batch_sizes:
        options = dict(
            model=arguments.model,
            batch_size=batch_size,
            num_microbatches=1,
            frozen_vision=arguments.frozen_vision,
            dtype=arguments.dtype,
            remat=arguments.remat,
            mesh="1,1,1",
            steps=arguments.steps,
            peak_seconds=4.0,
        )
        try:
            found.append(step_benchmark.measure(argparse.Namespace(**options)))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            found.append({"batch_size": batch_size, "error": str(error).splitlines()[0][:200]})
        print(found[-1], flush=True)
    return found


def attention_forms(dtype: str, rows: int, repeats: int) -> dict[str, dict[str, Any]]:
    """Every form that runs here, forward and backward, and how far it is from the dense one."""
    found: dict[str, dict[str, Any]] = {}
    for name, (length, heads, size, has_bias) in ATTENTION.items():
        keys = jax.random.split(jax.random.key(0), 5)
        shape = (rows, length, heads, size)
        query, key, value, weight = (jax.random.normal(k, shape).astype(dtype) for k in keys[:4])
        table = jax.random.normal(keys[4], (32, heads)) if has_bias else None
        dense = None
        for form in FORMS:

            def loss(query, key, value, table, form=form, weight=weight):
                bias = None if table is None else RelativeBias(table, True, 128)
                out = attention(query, key, value, scale=size**-0.5, bias=bias, form=form)  # noqa: B023
                return (out.astype(jnp.float32) * weight).sum(), out

            wanted = (0, 1, 2) if table is None else (0, 1, 2, 3)
            forward, both = jax.jit(loss), jax.jit(jax.grad(loss, wanted, has_aux=True))
            entry = f"{name}/{form}"
            try:
                grads, out = both(query, key, value, table)
                numbers = [np.asarray(x, np.float32) for x in (out, *grads)]
                found[entry] = {
                    "forward_milliseconds": 1e3 * seconds(lambda: forward(query, key, value, table), repeats),  # noqa: B023
                    "gradient_milliseconds": 1e3 * seconds(lambda: both(query, key, value, table), repeats),  # noqa: B023
                }
            except Exception as error:  # noqa: BLE001  a kernel of another platform, or too little memory
                found[entry] = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"}
                continue
            dense = numbers if form == "dense" else dense
            if dense is not None:
                apart = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(numbers, dense, strict=True)]
                found[entry]["difference"] = float(max(apart))
            print(entry, found[entry], flush=True)
    return found


def decode(arguments: argparse.Namespace) -> dict[str, Any]:
    """Greedy decoding of made-up weights, which never end an answer early."""
    from paligax.inference import decoding

    module, resolution, input_length, _ = step_benchmark.build(arguments.model, arguments.dtype, "none")
    rows, length = arguments.decode_batch_size, arguments.decode_length
    rng = np.random.default_rng(0)
    lengths = {"image": resolution, "inputs": input_length, "targets": length}
    abstract = models.abstract_params(module, lengths)
    # All logits are the same: the first token is taken each time, which ends nothing.
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, arguments.dtype), abstract)
    image = jnp.asarray(rng.integers(0, 256, (rows, resolution, resolution, 3), dtype=np.uint8))
    inputs = jnp.asarray(rng.integers(2, 1000, (rows, input_length), dtype=np.int32))
    mask = jnp.ones(rows, bool)
    taken = seconds(lambda: decoding.greedy(module, params, image, inputs, mask, length), 3)
    return {"tokens_per_second": rows * length / taken, "seconds": taken, "batch_size": rows, "length": length}


def paligemma(batch_size: int, target_length: int, repeats: int) -> dict[str, Any] | None:
    """A training step of transformers' PaliGemma-3B, 224 px, bfloat16, made-up weights; None without it or a GPU."""
    try:
        import torch
        import transformers
    except ModuleNotFoundError:
        return None
    if not torch.cuda.is_available():
        return None
    config = transformers.PaliGemmaConfig()
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = transformers.PaliGemmaForConditionalGeneration(config).to(torch.bfloat16)
    model.gradient_checkpointing_enable()
    images = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
    text = 128 + target_length
    ids = torch.randint(2, 1000, (batch_size, images + text), device="cuda")
    ids[:, :images] = config.image_token_index
    labels = ids.clone()
    labels[:, : images + 128] = -100
    pixels = torch.rand(batch_size, 3, 224, 224, device="cuda", dtype=torch.bfloat16)
    types = (torch.arange(images + text, device="cuda") >= images + 128).long().expand(batch_size, -1)
    optimizer = torch.optim.Adafactor(model.parameters(), lr=1e-4)
    times = []
    for i in range(repeats + 2):
        torch.cuda.synchronize()
        began = time.perf_counter()
        loss = model(input_ids=ids, pixel_values=pixels, labels=labels, token_type_ids=types).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        if i >= 2:
            times.append(time.perf_counter() - began)
    taken = statistics.median(times)
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "step_seconds": taken,
        "examples_per_second": batch_size / taken,
        "parameters": parameters,
        "batch_size": batch_size,
        "tokens": images + text,
        "torch": torch.__version__,
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    found = {
        "device": jax.devices()[0].device_kind,
        "vendor_peak_flops": flops.peak_flops(jax.devices()[0]),
        "jax": jax.__version__,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    if "steps" in arguments.parts:
        found["steps"] = steps(arguments)
        done = [entry for entry in found["steps"] if "error" not in entry]
        found["best"] = best = max(done, key=lambda entry: entry["examples_per_second"], default=None)
        found["paligemma"] = paligemma(best["batch_size"], best["target_length"], arguments.steps) if best else None
    if "attention" in arguments.parts:
        found["attention"] = attention_forms(arguments.dtype, arguments.attention_rows, arguments.steps)
    if "decode" in arguments.parts:
        found["decode"] = decode(arguments)
    return found


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=step_benchmark.MODELS, default="3b")
    parser.add_argument("--batch_sizes", type=lambda text: [int(n) for n in text.split(",")], default=[16, 32, 64])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--remat", choices=("none", "full", "dots"), default="dots")
    parser.add_argument("--frozen_vision", action="store_true", help="as in the first phase of PaLI")
    parser.add_argument("--parts", default="steps,attention,decode", help="which of them")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--attention_rows", type=int, default=8)
    parser.add_argument("--decode_batch_size", type=int, default=64)
    parser.add_argument("--decode_length", type=int, default=32)
    parser.add_argument("--json", type=pathlib.Path, help="where to write the result")
    arguments = parser.parse_args(words)
    result = measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
