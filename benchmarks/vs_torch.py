"""One PaLI in paligax and in torch, side by side: the same weights, the same batch, processes of both in turns.

    pip install -e .[parity]
    python benchmarks/vs_torch.py --json=vs_torch.json

The model is a SigLIP-B/16 at 224 px, a projection and an mT5-small, in float32. In torch it is made of transformers'
SiglipVisionModel and MT5ForConditionalGeneration, compiled by torch.compile where that works (--eager: not at all).
Each turn is a process of its own, as each is used. A training step is loss, gradients and AdamW's update (torch's
fused one). The losses are compared. Keys:

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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

RESOLUTION, LEARNING_RATE = 224, 1e-4
Run = Callable[[], float]


def torch_model():
    """SigLIP's image tower, a projection and an mT5, joined in torch, with weights drawn from seed 0."""
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

    return Joined()


def write_weights(directory: pathlib.Path) -> None:
    """The weights that both sides read: two directories as transformers saves them, and the projection."""
    model = torch_model()
    for name in ("vision", "language"):
        getattr(model, name).save_pretrained(directory / name)
    weight, bias = (p.detach().numpy() for p in (model.projection.weight, model.projection.bias))
    np.savez(directory / "projection.npz", kernel=weight.T, bias=bias)


def examples(arguments: argparse.Namespace) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = dict(inputs=arguments.input_length, targets=arguments.target_length)
    ids = {n: rng.integers(2, 250_000, (arguments.batch_size, size), dtype=np.int32) for n, size in sizes.items()}
    return ids | {"image": rng.integers(0, 256, (arguments.batch_size, RESOLUTION, RESOLUTION, 3), dtype=np.uint8)}


def torch_side(arguments: argparse.Namespace) -> tuple[Run, Run, dict]:
    """(forward, training step, facts) in torch; its weights are the ones written, because the seed is."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    plain = torch_model()
    batch = examples(arguments)
    pixels = torch.tensor(batch.pop("image").astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2).contiguous()
    ids = {name: torch.tensor(array.astype(np.int64)) for name, array in batch.items()}
    compiled, model = not arguments.eager, plain
    if compiled:
        model = torch.compile(plain)
        try:
            with torch.no_grad():
                model(pixels, **ids)
        except Exception as error:  # no compiler, or one that fails
            print(f"torch.compile does not work here ({str(error).splitlines()[0][:200]}); torch runs eagerly.")
            compiled, model = False, plain
    adamw = torch.optim.AdamW(plain.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)

    def forward() -> float:
        with torch.no_grad():
            return float(model(pixels, **ids))

    def step() -> float:
        adamw.zero_grad(set_to_none=True)
        loss = model(pixels, **ids)
        loss.backward()
        adamw.step()
        return float(loss.detach())

    return forward, step, {"compiled": compiled, "torch": torch.__version__}


def paligax_side(arguments: argparse.Namespace) -> tuple[Run, Run, dict]:
    """The same in paligax: its model and its train step."""
    import jax
    import jax.numpy as jnp

    import paligax
    from paligax.batch import TextBatch
    from paligax.models import MT5, PaLI, ViT
    from paligax.training import objectives, optimizers, partitioning, schedules, state, step, treatments
    from paligax.training.partitioning import Partitioner

    module = PaLI(vision=ViT.variant("B/16", unroll=12), language=MT5.variant("small", unroll=8))
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
    params = {name: paligax.load(str(arguments.weights / name)).params for name in ("vision", "language")}
    params["projection"] = dict(np.load(arguments.weights / "projection.npz"))
    current = program.initial_state()
    placed = jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), params, current.params)
    current = dataclasses.replace(current, params=placed)
    del params, placed
    parts = examples(arguments)
    batch = TextBatch(
        image_mask=np.ones(arguments.batch_size, bool),
        weights=np.ones(parts["targets"].shape, np.float32),
        task=np.zeros(arguments.batch_size, np.int32),
        **parts,
    )
    batch = partitioning.to_global(batch, partitioning.batch_sharding(program.mesh), arguments.batch_size)

    @jax.jit
    def loss_of(params, batch):
        logits = module.apply({"params": params}, batch.image, batch.inputs, batch.targets, batch.image_mask)
        found = jnp.take_along_axis(logits, batch.targets[..., None], -1)[..., 0]
        return (jax.nn.logsumexp(logits, -1) - found).mean()

    train_step = step.compile_step(program)

    def forward() -> float:
        return float(loss_of(current.params, batch))

    def one_step() -> float:
        nonlocal current
        current, metrics = train_step(current, batch)
        return float(metrics["loss"])

    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(program.abstract.params))
    return forward, one_step, {"parameters": count, "jax": jax.__version__}


SIDES = {"torch": torch_side, "paligax": paligax_side}


def measure_side(arguments: argparse.Namespace) -> dict:
    """What a process of one side measures: {"loss", "forward": [seconds], "step": [seconds], …}."""
    forward, step, facts = SIDES[arguments.side](arguments)
    gc.collect()
    found: dict[str, Any] = {"loss": forward()}
    for name, run in (("forward", forward), ("step", step)):
        run()
        found[name] = [seconds(run) for _ in range(arguments.repeats)]
    return found | facts


def seconds(run: Run) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def measure(arguments: argparse.Namespace) -> dict:
    """Starts a process of each side in turns: together, both models would fill the memory and slow each other."""
    times: dict[str, list[float]] = {f"{side}{name}": [] for side in ("", "torch_") for name in ("forward", "step")}
    facts: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as directory:
        arguments.weights = pathlib.Path(directory)
        words = [f"--{n}={getattr(arguments, n)}" for n in ("batch_size", "input_length", "target_length", "repeats")]
        words += [f"--weights={directory}"] + ["--eager"] * arguments.eager
        # torch keeps what it compiled here, for its next turn.
        setting = os.environ | {"TORCHINDUCTOR_CACHE_DIR": f"{directory}/compiled"}
        subprocess.run([sys.executable, __file__, "--side=weights", *words], check=True, env=setting)
        for _ in range(arguments.rounds):
            for side in SIDES:
                path = arguments.weights / "found.json"
                subprocess.run(
                    [sys.executable, __file__, f"--side={side}", f"--json={path}", *words], check=True, env=setting
                )
                facts[side] = json.loads(path.read_text())
                for name in ("forward", "step"):
                    times[f"torch_{name}" if side == "torch" else name] += facts[side].pop(name)
            loss, torch_loss = facts["paligax"]["loss"], facts["torch"]["loss"]
            if abs(loss - torch_loss) > 1e-4 * abs(torch_loss):
                raise SystemExit(f"The losses differ: paligax {loss}, torch {torch_loss}.")
            ratios = [statistics.median(times[f"torch_{n}"]) / statistics.median(times[n]) for n in ("forward", "step")]
            print("so far: torch ÷ paligax forward {:.2f}, step {:.2f}".format(*ratios), flush=True)
    median = {f"{name}_seconds": statistics.median(found) for name, found in times.items()}
    return {
        **median,
        "forward_ratio": median["torch_forward_seconds"] / median["forward_seconds"],
        "step_ratio": median["torch_step_seconds"] / median["step_seconds"],
        "loss": facts["paligax"].pop("loss"),
        "torch_loss": facts["torch"].pop("loss"),
        **facts["paligax"],
        **facts["torch"],
        "times": {name: [round(t, 3) for t in found] for name, found in times.items()},
        "batch_size": arguments.batch_size,
        "inputs": arguments.input_length,
        "targets": arguments.target_length,
        "rounds": arguments.rounds,
        "repeats": arguments.repeats,
        "cores": os.cpu_count(),
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
    parser.add_argument("--rounds", type=int, default=4, help="processes of each side")
    parser.add_argument("--repeats", type=int, default=3, help="forward passes, and steps, of each process")
    parser.add_argument("--eager", action="store_true", help="don't compile torch's model")
    parser.add_argument("--json", type=pathlib.Path, help="where to write the result")
    # What the processes of each side are told.
    parser.add_argument("--side", choices=["weights", *SIDES], help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=pathlib.Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.side == "weights":
        return write_weights(arguments.weights)
    if arguments.side:
        arguments.json.write_text(json.dumps(measure_side(arguments)))
        return None
    result = measure(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    for name, value in result.items():
        print(f"{name:<24} {value:,.4g}" if isinstance(value, float) else f"{name:<24} {value}")


if __name__ == "__main__":
    use_huge_pages()
    main(sys.argv[1:])
