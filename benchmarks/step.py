"""How fast a train step is: seconds, examples/s, and MFU against this machine's matrix products in the same run.

    python benchmarks/step.py --model=mini --batch_size=64 --json=step.json

The batch is made up and stays on the device: reading data is measured by benchmarks/input.py.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from paligax.batch import TextBatch
from paligax.models import MT5, PaLI, ViT
from paligax.training import flops, objectives, optimizers, partitioning, schedules, state, step, treatments
from paligax.training.partitioning import Partitioner

# name → (ViT, mT5, resolution, text in, text out); "mini" as in gin_configs/models/pali_mini.gin
MODELS = {
    "mini": (
        dict(width=96, depth=4, mlp_dim=384, num_heads=4, patch_size=8, unroll=4),
        dict(
            width=96,
            mlp_dim=256,
            encoder_depth=2,
            decoder_depth=2,
            num_heads=2,
            head_dim=48,
            vocab_size=832,
            unroll=2,
        ),
        64,
        32,
        28,
    ),
    "small": ("B/16", "small", 224, 128, 64),
    "3b": ("G/14", "large", 224, 128, 64),
    "17b": ("e/14", "xxl", 224, 128, 64),
}
MATMUL_SIZES = {"cpu": (512, 1024, 2048), "gpu": (4096, 8192), "tpu": (4096, 8192)}


def build(name: str, dtype: str, remat: str) -> tuple[PaLI, int, int, int]:
    """(module, resolution, text in, text out)."""
    vision, language, *sizes = MODELS[name]
    common = dict(dtype=dtype, remat=remat)
    vit = ViT(**vision, **common) if isinstance(vision, dict) else ViT.variant(vision, **common)
    mt5 = MT5(**language, **common) if isinstance(language, dict) else MT5.variant(language, **common)
    return PaLI(vision=vit, language=mt5), *sizes


def batch_of(abstract: TextBatch, vocab_size: int) -> TextBatch:
    rng = np.random.default_rng(0)
    return TextBatch(
        image=rng.integers(0, 256, abstract.image.shape, dtype=np.uint8),
        image_mask=np.ones(abstract.image_mask.shape, bool),
        inputs=rng.integers(2, vocab_size, abstract.inputs.shape, dtype=np.int32),
        targets=rng.integers(2, vocab_size, abstract.targets.shape, dtype=np.int32),
        weights=np.ones(abstract.weights.shape, np.float32),
        task=np.zeros(abstract.task.shape, np.int32),
    )


def matmul_peak(dtype: str, seconds: float) -> float:
    """FLOP/s of the fastest square matrix product on one device, of several sizes, in about this many seconds."""
    sizes = MATMUL_SIZES[jax.default_backend()]
    best = 0.0
    for n in sizes:
        x = jax.random.normal(jax.random.key(0), (n, n)).astype(dtype)
        multiply = jax.jit(jnp.matmul)
        multiply(x, x).block_until_ready()
        deadline = time.perf_counter() + seconds / len(sizes)
        while time.perf_counter() < deadline:
            began = time.perf_counter()
            multiply(x, x).block_until_ready()
            best = max(best, 2.0 * n**3 / (time.perf_counter() - began))
    return best


def measure(arguments: argparse.Namespace) -> dict:
    module, resolution, input_length, target_length = build(arguments.model, arguments.dtype, arguments.remat)
    data, fsdp, tensor = (int(size) for size in arguments.mesh.split(","))
    table = treatments.TRAIN_ALL
    if arguments.frozen_vision:
        table = (("vision/.*", treatments.Frozen()), *table)
    began = time.perf_counter()
    program = state.prepare(
        module,
        objectives.TextLoss(),
        optimizers.Adafactor(schedules.InverseSquareRoot(1e-2)),
        Partitioner(data=data, fsdp=fsdp, tensor=tensor),
        TextBatch.abstract(
            batch_size=arguments.batch_size,
            resolution=resolution,
            input_length=input_length,
            target_length=target_length,
        ),
        treatment_table=table,
        num_microbatches=arguments.num_microbatches,
    )
    train_step = step.compile_step(program)
    compiled = time.perf_counter() - began
    current = program.initial_state()
    batch = partitioning.to_global(
        batch_of(program.abstract_batch, module.language.vocab_size),
        partitioning.batch_sharding(program.mesh),
        arguments.batch_size,
    )
    # The peak is measured before and after the steps: what else the machine does hits both.
    peak = matmul_peak(arguments.dtype, arguments.peak_seconds / 2)
    times, loss = [], float("nan")
    for i in range(arguments.steps + 2):
        began = time.perf_counter()
        current, metrics = train_step(current, batch)
        loss = float(metrics["loss"])
        if i >= 2:
            times.append(time.perf_counter() - began)
    peak = max(peak, matmul_peak(arguments.dtype, arguments.peak_seconds / 2))
    devices = program.mesh.devices.size
    # Forced CPU devices share the machine's cores.
    whole_peak = peak if jax.default_backend() == "cpu" else peak * devices
    needed = flops.model_flops(program)
    seconds = statistics.median(times)
    vendor = flops.peak_flops(jax.devices()[0])
    return {
        "model": arguments.model,
        "parameters": sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(program.abstract.params)),
        "dtype": arguments.dtype,
        "frozen_vision": arguments.frozen_vision,
        "remat": arguments.remat,
        "batch_size": arguments.batch_size,
        "num_microbatches": arguments.num_microbatches,
        "resolution": resolution,
        "input_length": input_length,
        "target_length": target_length,
        "device": jax.devices()[0].device_kind,
        "devices": devices,
        "jax": jax.__version__,
        "steps": len(times),
        "compile_seconds": compiled,
        "step_seconds": seconds,
        "step_seconds_fastest": min(times),
        "examples_per_second": arguments.batch_size / seconds,
        "model_flops": needed,
        "matmul_peak_flops": whole_peak,
        "mfu_of_measured_peak": needed / (seconds * whole_peak),
        "mfu": None if vendor is None else needed / (seconds * vendor * devices),
        "loss": loss,
    }


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="mini")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--num_microbatches", type=int, default=1)
    parser.add_argument("--frozen_vision", action="store_true", help="as in the first phase of PaLI")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--remat", choices=("none", "full", "dots"), default="none")
    parser.add_argument("--mesh", default="-1,1,1", help="data,fsdp,tensor; -1: what the others leave")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peak_seconds", type=float, default=6.0, help="how long the peak is measured")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the result")
    arguments = parser.parse_args(words)
    result = measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        print(f"{name:<24} {value:,.4g}" if isinstance(value, float) else f"{name:<24} {value}")


if __name__ == "__main__":
    main(sys.argv[1:])
