"""One PaLI in paligax and in torch, side by side: the same weights, the same batch, forward and training step in turns.

    pip install -e .[parity]
    python benchmarks/vs_torch.py --json=vs_torch.json

The model is a SigLIP-B/16 at 224 px, a projection and an mT5-small, in float32. In torch it is made of transformers'
SiglipVisionModel and MT5ForConditionalGeneration, compiled by torch.compile where that works (--eager: not at all).
Both losses are compared first. A training step is loss, gradients and AdamW's update (torch's fused one). Keys:

    forward_seconds, torch_forward_seconds, forward_ratio      torch's time ÷ paligax's: above 1 paligax is faster
    step_seconds, torch_step_seconds, step_ratio
    loss, torch_loss                                           of the first batch
    compiled                                                   whether torch.compile worked
"""

import argparse
import dataclasses
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
import jax.numpy as jnp
import numpy as np

import paligax
from paligax.batch import TextBatch
from paligax.models import MT5, PaLI, ViT
from paligax.training import objectives, optimizers, partitioning, schedules, state, step, treatments
from paligax.training.partitioning import Partitioner

RESOLUTION, LEARNING_RATE = 224, 1e-4


def torch_model(compiled: bool):
    """(what is run, the module itself)."""
    import torch
    import transformers

    torch.manual_seed(0)
    vision = transformers.SiglipVisionConfig(image_size=RESOLUTION, patch_size=16, vision_use_head=False)
    text = transformers.MT5Config(dropout_rate=0.0)  # its defaults are mT5-small's

    class Joined(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vision = transformers.SiglipVisionModel(vision)
            self.language = transformers.MT5ForConditionalGeneration(text)
            self.language.lm_head.weight = torch.nn.Parameter(torch.randn_like(self.language.lm_head.weight) * 0.02)
            self.projection = torch.nn.Linear(vision.hidden_size, text.d_model)

        def forward(self, image, inputs, targets):
            tokens = self.projection(self.vision(image).last_hidden_state)
            joined = torch.cat([tokens, self.language.get_input_embeddings()(inputs)], dim=1)
            mask = torch.cat([torch.ones(tokens.shape[:2], dtype=torch.long), (inputs > 0).long()], dim=1)
            shifted = torch.nn.functional.pad(targets[:, :-1], (1, 0))
            out = self.language(inputs_embeds=joined, attention_mask=mask, decoder_input_ids=shifted, use_cache=False)
            return torch.nn.functional.cross_entropy(out.logits.flatten(0, 1), targets.flatten())

    model = Joined()
    return (torch.compile(model) if compiled else model), model


def our_program(model, arguments: argparse.Namespace):
    """The same model with the same weights, by way of a directory that transformers saves; and its train step."""
    module = PaLI(
        vision=ViT.variant("B/16", unroll=12),
        language=MT5.variant("small", unroll=8),
    )
    with tempfile.TemporaryDirectory() as directory:
        for name in ("vision", "language"):
            getattr(model, name).save_pretrained(f"{directory}/{name}")
        vision, language = (paligax.load(f"{directory}/{name}").params for name in ("vision", "language"))
    weight, bias = (p.detach().numpy().copy() for p in (model.projection.weight, model.projection.bias))
    params = {"vision": vision, "language": language, "projection": {"kernel": weight.T, "bias": bias}}
    program = state.prepare(
        module,
        objectives.TextLoss(),
        optimizers.AdamW(schedules.Constant(LEARNING_RATE)),
        Partitioner(data=1, fsdp=1, tensor=1),
        TextBatch.abstract(
            batch_size=arguments.batch_size,
            resolution=RESOLUTION,
            input_length=arguments.input_length,
            target_length=arguments.target_length,
        ),
        treatment_table=treatments.TRAIN_ALL,
        num_microbatches=1,
    )
    started = program.initial_state()
    placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), params, started.params)
    return module, program, dataclasses.replace(started, params=placed)


def seconds(run: Callable[[], float]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(arguments: argparse.Namespace) -> dict:
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    rng = np.random.default_rng(0)
    sizes = dict(inputs=arguments.input_length, targets=arguments.target_length)
    ids = {n: rng.integers(2, 250_000, (arguments.batch_size, size), dtype=np.int32) for n, size in sizes.items()}
    image = rng.integers(0, 256, (arguments.batch_size, RESOLUTION, RESOLUTION, 3), dtype=np.uint8)

    compiled = not arguments.eager
    theirs, plain = torch_model(compiled)
    module, program, current = our_program(plain, arguments)
    gc.collect()
    pixels = torch.tensor(image.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2).contiguous()
    there = {name: torch.tensor(array.astype(np.int64)) for name, array in ids.items()}
    adamw = torch.optim.AdamW(plain.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    def torch_forward() -> float:
        with torch.no_grad():
            return float(theirs(pixels, **there))

    def torch_step() -> float:
        adamw.zero_grad(set_to_none=True)
        loss = theirs(pixels, **there)
        loss.backward()
        adamw.step()
        return float(loss.detach())

    batch = TextBatch(
        image=image,
        image_mask=np.ones(arguments.batch_size, bool),
        weights=np.ones(ids["targets"].shape, np.float32),
        task=np.zeros(arguments.batch_size, np.int32),
        **ids,
    )
    sharding = partitioning.batch_sharding(program.mesh)
    batch = partitioning.to_global(batch, sharding, arguments.batch_size)

    @jax.jit
    def loss_of(params, batch):
        logits = module.apply({"params": params}, batch.image, batch.inputs, batch.targets, batch.image_mask)
        found = jnp.take_along_axis(logits, batch.targets[..., None], -1)[..., 0]
        return (jax.nn.logsumexp(logits, -1) - found).mean()

    train_step = step.compile_step(program)

    def our_forward() -> float:
        return float(loss_of(current.params, batch))

    def our_step() -> float:
        nonlocal current
        current, metrics = train_step(current, batch)
        return float(metrics["loss"])

    try:
        torch_loss = torch_forward()
    except Exception as error:  # no compiler, or one that fails
        if not compiled:
            raise
        print(f"torch.compile does not work here ({str(error).splitlines()[0][:200]}); torch runs eagerly.")
        compiled, theirs = False, plain
        torch_loss = torch_forward()
    loss = our_forward()
    if abs(loss - torch_loss) > 1e-4 * abs(torch_loss):
        raise SystemExit(f"The losses differ: paligax {loss}, torch {torch_loss}.")
    times: dict[str, list[float]] = {"forward": [], "torch_forward": [], "step": [], "torch_step": []}
    runs = {"forward": our_forward, "torch_forward": torch_forward, "step": our_step, "torch_step": torch_step}
    for run in runs.values():
        run()
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
        # Compiling torch's model takes minutes: what is known so far, should it be stopped.
        ratios = [statistics.median(times[f"torch_{n}"]) / statistics.median(times[n]) for n in ("forward", "step")]
        print("so far: torch ÷ paligax forward {:.2f}, step {:.2f}".format(*ratios), flush=True)
    median = {f"{name}_seconds": statistics.median(found) for name, found in times.items()}
    return {
        **median,
        "forward_ratio": median["torch_forward_seconds"] / median["forward_seconds"],
        "step_ratio": median["torch_step_seconds"] / median["step_seconds"],
        "loss": loss,
        "torch_loss": torch_loss,
        "compiled": compiled,
        "batch_size": arguments.batch_size,
        **sizes,
        "parameters": sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(program.abstract.params)),
        "rounds": arguments.rounds,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "torch": torch.__version__,
    }


def use_huge_pages() -> None:
    """Starts this program anew with glibc's malloc on huge pages, for both sides: as `make quickstart` does.

    Else each of paligax's steps takes 950,000 page faults, 2.5 s of the kernel's time.
    """
    setting = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | setting)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--input_length", type=int, default=128)
    parser.add_argument("--target_length", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--eager", action="store_true", help="don't compile torch's model")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the result")
    arguments = parser.parse_args(words)
    result = measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        print(f"{name:<24} {value:,.4g}" if isinstance(value, float) else f"{name:<24} {value}")


if __name__ == "__main__":
    use_huge_pages()
    main(sys.argv[1:])
