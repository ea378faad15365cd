"""A job small enough for tests: a one-layer PaLI or classifier on made-up batches, also as a process to be killed.

    python -m tests.training.toy RUN_DIRECTORY --steps=12 …
"""

import argparse
import dataclasses
import hashlib
import pathlib
import sys
import time

import numpy as np

from paligax.batch import LabelBatch, TextBatch
from paligax.models import MT5, Classifier, PaLI, ViT
from paligax.training import Trainer, objectives, optimizers, schedules, state
from paligax.training.partitioning import Partitioner
from paligax.vocabulary import ByteVocabulary

RESOLUTION, INPUTS, TARGETS, VOCABULARY, CLASSES = 16, 6, 5, 64, 8  # ids drawn; the model has rows for all of bytes
TASKS = ("caption", "vqa")


def vit(**overrides) -> ViT:
    return ViT(**(dict(width=16, depth=1, mlp_dim=32, num_heads=8, patch_size=8) | overrides))


def pali(vision=None, **overrides) -> PaLI:
    language = dict(
        width=16, mlp_dim=32, encoder_depth=1, decoder_depth=1, num_heads=8, head_dim=2, vocab_size=384
    )
    return PaLI(vision=vision or vit(), language=MT5(**(language | overrides)))


def classifier() -> Classifier:
    return Classifier(vision=vit(), num_classes=CLASSES)


def text_batch(step: int, size: int) -> TextBatch:
    """Rows of very unequal target lengths, the last one unusable."""
    rng = np.random.default_rng(step)
    targets = rng.integers(2, VOCABULARY, (size, TARGETS), dtype=np.int32)
    lengths = rng.integers(1, TARGETS + 1, size)
    weights = (np.arange(TARGETS) < lengths[:, None]).astype(np.float32)
    weights[-1] = 0
    return TextBatch(
        image=rng.integers(0, 256, (size, RESOLUTION, RESOLUTION, 3), dtype=np.uint8),
        image_mask=np.arange(size) % 3 > 0,
        inputs=rng.integers(2, VOCABULARY, (size, INPUTS), dtype=np.int32),
        targets=targets * (weights > 0),
        weights=weights,
        task=(np.arange(size) % len(TASKS)).astype(np.int32),
    )


def label_batch(step: int, size: int) -> LabelBatch:
    rng = np.random.default_rng(step)
    return LabelBatch(
        image=rng.integers(0, 256, (size, RESOLUTION, RESOLUTION, 3), dtype=np.uint8),
        labels=rng.integers(0, 2, (size, CLASSES)).astype(np.float32),
        weights=np.ones(size, np.float32),
        task=np.zeros(size, np.int32),
    )


@dataclasses.dataclass(frozen=True)
class Item:
    step: int
    batch: TextBatch
    skipped: dict[str, int]
    ids: list[str]


@dataclasses.dataclass(frozen=True)
class Data:
    """Batch s is a function of s, as it is in paligax.data.

    Attributes:
      kind: "text" or "labels".
      poison: step whose batch gives a loss that is not finite (a weight of infinity).
      fail: step at which reading fails.
    """

    batch_size: int = 8
    kind: str = "text"
    vocabulary: ByteVocabulary | None = ByteVocabulary()
    salt: str = ""
    pause: float = 0.0
    poison: int = -1
    fail: int = -1

    def stream(self, shard_index: int = 0, num_shards: int = 1) -> "Stream":
        return Stream(self, shard_index, num_shards)


@dataclasses.dataclass(frozen=True)
class Stream:
    data: Data
    shard_index: int
    num_shards: int

    task_names = TASKS

    def fingerprint(self) -> str:
        return hashlib.sha256(f"toy{self.data.batch_size}{self.data.salt}".encode()).hexdigest()[:12]

    def abstract_batch(self) -> TextBatch | LabelBatch:
        rows = self.data.batch_size // self.num_shards
        if self.data.kind == "labels":
            return LabelBatch.abstract(batch_size=rows, resolution=RESOLUTION, num_classes=CLASSES)
        return TextBatch.abstract(
            batch_size=rows, resolution=RESOLUTION, input_length=INPUTS, target_length=TARGETS
        )

    def batches(self, start_step: int = 0):
        import jax

        step = start_step
        width = self.data.batch_size // self.num_shards
        rows = slice(self.shard_index * width, (self.shard_index + 1) * width)
        while True:
            if step == self.data.fail:
                raise OSError("the shard is gone")
            rows_of_all = batch(self.data.kind, step, self.data.batch_size)
            if step == self.data.poison:
                weights = np.where(rows_of_all.task[:, None] == 1, np.inf, rows_of_all.weights)
                rows_of_all = dataclasses.replace(rows_of_all, weights=weights)
            time.sleep(self.data.pause)
            ids = [f"{TASKS[t]}:{step}-{i}:0" for i, t in enumerate(rows_of_all.task)]
            yield Item(step, jax.tree.map(lambda x: x[rows], rows_of_all), {"vqa/empty text": 1}, ids[rows])
            step += 1


def job(kind: str, **overrides) -> Trainer:
    """A "text" or a "labels" job."""
    if kind == "text":
        return trainer(**overrides)
    labels = dict(model=classifier(), objective=objectives.LabelLoss(), data=Data(kind="labels"))
    return trainer(**(labels | overrides))


def batch(kind: str, step: int, size: int = 8) -> TextBatch | LabelBatch:
    return text_batch(step, size) if kind == "text" else label_batch(step, size)


def program(job: Trainer, batch_size: int = 8, devices=None) -> state.Program:
    """The job's program, on one device unless others are given."""
    import jax

    return state.prepare(
        job.model,
        job.objective,
        job.optimizer,
        job.partitioner,
        dataclasses.replace(job.data, batch_size=batch_size).stream().abstract_batch(),
        treatment_table=job.treatments,
        num_tasks=len(TASKS),
        num_microbatches=job.num_microbatches,
        seed=job.seed,
        devices=devices or jax.devices()[:1],
    )


def random_state(program: state.Program) -> state.State:
    """Random parameters, without compiling an initialisation; the same on every mesh, and none of them zero."""
    import jax

    rng = np.random.default_rng(0)

    def draw(leaf):
        value = 0.3 * rng.standard_normal(leaf.shape) if leaf.dtype == np.float32 else np.zeros(leaf.shape)
        return jax.device_put(value.astype(leaf.dtype), leaf.sharding)

    params = jax.tree.map(draw, program.abstract.params)
    zeros = jax.tree.map(
        lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding), program.abstract.optimizer
    )
    return state.State(draw(program.abstract.step), params, zeros)


def fast(lowered):
    """Compiled without optimisations, in half the time."""
    return lowered.compile(compiler_options={"xla_backend_optimization_level": 0})


def trainer(steps: int = 6, **overrides) -> Trainer:
    fields = dict(
        model=pali(),
        objective=objectives.TextLoss(),
        data=Data(),
        optimizer=optimizers.Adafactor(schedules.InverseSquareRoot(1e-2, 10), min_size_to_factor=16),
        train_steps=steps,
        checkpoint_every=2,
        keep=2,
        log_every=2,
        compile_cache="",
    )
    return Trainer(**(fields | overrides))


def main(arguments: list[str]) -> None:
    from paligax.training import peers, train

    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--kind", default="labels")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--cache", default="")
    parser.add_argument("--fsdp", type=int, default=1)
    parser.add_argument("--join", nargs=3, metavar=("ADDRESS", "PROCESSES", "INDEX"), help="one of several processes")
    parser.add_argument("--die", default="", choices=["", *MOMENTS], help="the moment at which it kills itself")
    parser.add_argument("--file_limit", type=int, default=0, help="bytes a file may have, as if the disk were full")
    parser.add_argument("--fail", type=int, nargs=2, default=(-1, -1), help="step at which reading fails, and process")
    parser.add_argument("--stall_seconds", type=float, default=600.0)
    chosen = parser.parse_args(arguments)
    me = 0
    if chosen.join:
        address, processes, index = chosen.join
        joined = {"COORDINATOR": address, "NUM_PROCESSES": processes, "PROCESS_ID": index}
        joined |= {"LOST_SECONDS": "10", "JOIN_SECONDS": "30"}
        peers.join({f"PALIGAX_{name}": value for name, value in joined.items()})
        me = int(index)
    if chosen.die:
        MOMENTS[chosen.die]()
    if chosen.file_limit:
        limit_files(chosen.file_limit)
    fail_at, who_fails = chosen.fail
    made = job(
        chosen.kind,
        steps=chosen.steps,
        data=Data(kind=chosen.kind, pause=chosen.pause, fail=fail_at if me == who_fails else -1),
        compile_cache=chosen.cache,
        partitioner=Partitioner(fsdp=chosen.fsdp),
    )
    try:
        state = train(made, pathlib.Path(chosen.directory), "run = 'toy'\n", stall_seconds=chosen.stall_seconds)
    except peers.LostProcess as lost:
        peers.leave(lost.code)
        raise
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        peers.leave(1)
        raise
    print(f"final step {int(state.step)}")


def limit_files(size: int) -> None:
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def die(*args, **kwargs) -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def die_at_second(owner, name: str) -> None:
    """Replaces a function by one that kills the process when it is called for the second time."""
    function, calls = getattr(owner, name), []

    def call(*args, **kwargs):
        calls.append(1)
        return (die if len(calls) == 2 else function)(*args, **kwargs)

    setattr(owner, name, call)


def die_while_arrays_are_written() -> None:
    from paligax.training import saving

    die_at_second(saving.Checkpoints, "_complete")


def die_before_the_manifest() -> None:
    from paligax.training import manifest

    die_at_second(manifest, "write")


def die_while_an_old_checkpoint_is_deleted() -> None:
    import shutil

    from paligax.training import saving

    def half(directory):
        doomed = directory.with_name(directory.name + ".deleting")
        directory.rename(doomed)
        shutil.rmtree(doomed / "params")
        die()

    saving._remove = half


def die_while_the_log_is_written() -> None:
    from paligax.training import run_log

    write = run_log.RunLog.write

    def half(self, step, values):
        if len(read := run_log.read(pathlib.Path(self._file.name).parent)) and read[-1]["step"] >= 6:
            self._file.write('{"step": ')
            self._file.flush()
            die()
        write(self, step, values)

    run_log.RunLog.write = half


MOMENTS = {
    "arrays": die_while_arrays_are_written,
    "manifest": die_before_the_manifest,
    "deleting": die_while_an_old_checkpoint_is_deleted,
    "log": die_while_the_log_is_written,
}


if __name__ == "__main__":
    main(sys.argv[1:])
