"""The train loop. Its order is a contract: evaluate, save, next batch, step, log."""

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax

from paligax import models
from paligax.batch import TextBatch
from paligax.training import (
    branching,
    checkpoints,
    compile_cache,
    flops,
    initialise,
    partitioning,
    peers,
    processes,
    profiling,
    progress,
    run_directory,
    run_log,
    step,
    stopping,
    treatments,
    watching,
)
from paligax.training.prefetch import Prefetch
from paligax.training.recorder import Recorder, Stopwatch
from paligax.training.saving import Checkpoints
from paligax.training.state import Program, State, model_info, prepare
from paligax.training.trainer import Trainer
from paligax.vocabulary import check_rows

MODEL_INFO = "model-info.txt"

# How long a process that ends by an error, while others go on or are gone, waits for the save under way.
SAVE_PATIENCE_SECONDS = 20.0


def train(
    trainer: Trainer,
    model_dir: str | pathlib.Path,
    config: str,
    accept_config_change: bool = False,
    stall_seconds: float = watching.STALL_SECONDS,
    profile: str = "",
) -> State:
    """Trains to the end, from the newest checkpoint of the run directory if it has one.

    Args:
      trainer: the job.
      model_dir: the run's directory; made where it doesn't exist.
      config: resolved gin text; it is written there, and compared with what is there.
      accept_config_change: go on with a run whose configuration or data were others.
      stall_seconds: how long a step or a batch may take before the run ends, see :mod:`paligax.training.watching`.
      profile: "FIRST:LAST": the steps between are traced, see :mod:`paligax.training.profiling`.

    Returns:
      The final state.

    Raises:
      RunDirectoryError: where the directory is in use, or holds a run of another configuration or other data.
      CheckpointError: where a checkpoint can't be written, or none can be read.
      NonFiniteLoss: naming the step and the examples.
      Preempted: (a SystemExit with code 75) after SIGTERM or Ctrl-C, when the state is saved.
      LostProcess: (a SystemExit with code 76) where another process of the job is gone.
    """
    directory = run_directory.path_of(model_dir)
    traced = profiling.window(profile)
    say = _say if jax.process_index() == 0 else _say_nothing
    compile_cache.enable(trainer.compile_cache)
    with stopping.StopRequests(say) as stop, contextlib.ExitStack() as stack:
        try:
            with stop.interruptible(nothing_to_save=True):
                go_on = _start(
                    trainer, directory, config, accept_config_change, stall_seconds, traced, stop, stack, say
                )
            return go_on()
        except stopping.Interrupted:
            say("Asked to stop before the first step: there is nothing new to save.")
            raise stopping.Preempted(0) from None
        except BaseException as error:
            if (explained := peers.explain(error)) is not error:
                raise explained from error
            raise


def _start(
    trainer: Trainer,
    directory: pathlib.Path,
    config: str,
    accept_config_change: bool,
    stall_seconds: float,
    traced: tuple[int, int] | None,
    stop: stopping.StopRequests,
    stack: contextlib.ExitStack,
    say: Callable[[str], None],
) -> Callable[[], State]:
    """Everything before the first step, what must be closed on the stack; returns the call that trains to the end."""
    first = jax.process_index() == 0
    if first:
        run_directory.make(directory)
        stack.enter_context(run_directory.Lock(directory, say))
        run_directory.check_config(directory, config, accept_config_change, say)
    stopwatch = Stopwatch()
    watch = stack.enter_context(watching.Watch(directory, stopwatch, first, stall_seconds))
    watch.note(train_steps=trainer.train_steps)
    run = _open(trainer, directory, config, accept_config_change, stopwatch, say)

    def close(kind: Any, error: BaseException | None, trace: Any) -> None:
        run.checkpoints.close(SAVE_PATIENCE_SECONDS if error is not None and peers.are_left(error) else None)

    stack.push(close)
    if run.start >= trainer.train_steps:
        say(f"{directory} is trained: step {run.start} of {trainer.train_steps}.")
        watch.note(step=run.start, last_checkpoint=run.start)
        return lambda: run.checkpoints.restore(run.start, run.program.abstract)
    watch.began(run.start, processes=jax.process_count(), devices=jax.device_count(), mesh=dict(run.program.mesh.shape))
    # The first batches are made while the step compiles.
    batches = Prefetch(lambda: run.stream.batches(run.start), run.place, trainer.prefetch)
    stack.callback(batches.close)
    with stopwatch.measure("compile"):
        train_step = step.compile_step(run.program)
    say(f"Compiled the train step in {stopwatch.seconds['compile']:.1f} s.")
    state = _first_state(run, say)
    run.checkpoints.open_writer()
    log = run_log.RunLog(directory, run.start) if first else run_log.NoLog()
    stack.callback(log.close)
    display = progress.start(trainer.train_steps, run.start, first)
    stack.callback(display.close)
    recorder = _recorder(run, log, display)
    profile = profiling.Window(directory, *traced, display.say) if first and traced else profiling.NoProfile()
    stack.callback(profile.close)
    return lambda: _loop(run, state, train_step, batches, recorder, stop, watch, profile, display.say)


@dataclasses.dataclass(frozen=True)
class _Run:
    """One start of a run, opened and not yet running.

    Attributes:
      start: step from which it goes on.
      origin: checkpoint of another run that it begins with; None: its own, or step 0.
      place: the stream's item → (item, global batch); runs in the prefetch thread.
    """

    trainer: Trainer
    directory: pathlib.Path
    stream: Any
    program: Program
    checkpoints: Checkpoints
    start: int
    origin: pathlib.Path | None
    place: Callable[[Any], tuple[Any, Any]]
    watch: Stopwatch

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(self.stream.task_names)


def _loop(
    run: _Run,
    state: State,
    train_step: Any,
    batches: Prefetch,
    recorder: Recorder,
    stop: stopping.StopRequests,
    watch: watching.Watch,
    profile: profiling.Profile,
    say: Callable[[str], None],
) -> State:
    """Evaluate, save, next batch, step, log; until the end or a request to stop."""
    trainer, done = run.trainer, run.start
    evaluate_here = _evaluation_is_due(trainer, done) and not _is_evaluated(run)
    while True:
        watch.note(**recorder.latest, last_checkpoint=run.checkpoints.last)
        if stop.requested(done):
            raise _save_and_stop(run, recorder, done, state, say)
        if evaluate_here:
            try:
                with recorder.pause("evaluate"), stop.interruptible():
                    results = trainer.evaluator.evaluate(done, trainer.model, state.params)
            except stopping.Interrupted:
                continue
            recorder.evaluation(done, results)
        if done > run.start and (done % trainer.checkpoint_every == 0 or done == trainer.train_steps):
            with recorder.pause("save"):
                run.checkpoints.save(done, state)
        if done == trainer.train_steps:
            with recorder.pause("save"):
                run.checkpoints.finish()
            recorder.finish(done)
            watch.note(**recorder.latest, last_checkpoint=run.checkpoints.last)
            return state
        try:
            with run.watch.measure("wait_for_input"), stop.interruptible():
                item, batch = next(batches)
        except stopping.Interrupted:
            continue
        profile.before(done)
        state, metrics = train_step(state, batch)
        done += 1
        recorder.step(done, item, metrics)
        run.checkpoints.check()
        evaluate_here = _evaluation_is_due(trainer, done)


def _open(
    trainer: Trainer,
    directory: pathlib.Path,
    config: str,
    accept_change: bool,
    watch: Stopwatch,
    say: Callable[[str], None],
) -> _Run:
    """Data, program and checkpoints of a run, all checked against each other."""
    with watch.measure("open_data"):
        mesh = trainer.partitioner.mesh()
        partitioning.check_batch_size(mesh, trainer.data.batch_size, trainer.num_microbatches)
        stream = trainer.data.stream(*partitioning.data_shard(mesh, trainer.data.batch_size))
    if trainer.data.vocabulary is not None and (rows := models.vocabulary_rows(trainer.model)):
        check_rows(trainer.data.vocabulary, rows, say)
    program = _prepare(trainer, stream)
    _describe(trainer, program, directory, say)
    description = checkpoints.Description(
        architecture=models.describe(trainer.model),
        vocabulary=_keep_vocabulary(trainer.data.vocabulary, directory),
        config=config,
        fingerprint=stream.fingerprint(),
        task_names=tuple(stream.task_names),
        feature_lengths=dict(getattr(trainer.data, "feature_lengths", {})),
    )
    saved = Checkpoints(directory, trainer.keep, description, say)
    start, origin = saved.newest() or 0, None
    if start:  # before minutes go into compiling
        saved.check_fit(start, program.abstract)
        _check_data(saved.description(start), description, start, accept_change, say)
    elif trainer.branch_from:
        origin, start = branching.find_branch(trainer.branch_from, program.abstract, trainer.train_steps)

    def place(item: Any) -> tuple[Any, Any]:
        sharding = partitioning.batch_sharding(program.mesh)
        return item, partitioning.to_global(item.batch, sharding, trainer.data.batch_size)

    return _Run(trainer, directory, stream, program, saved, start, origin, place, watch)


def _prepare(trainer: Trainer, stream: Any) -> Program:
    rows = trainer.data.batch_size
    return prepare(
        trainer.model,
        trainer.objective,
        trainer.optimizer,
        trainer.partitioner,
        jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), stream.abstract_batch()),
        treatment_table=trainer.treatments,
        num_tasks=len(stream.task_names),
        num_microbatches=trainer.num_microbatches,
        seed=trainer.seed,
        skip_non_finite=trainer.non_finite == "skip",
    )


def _describe(trainer: Trainer, program: Program, directory: pathlib.Path, say: Callable[[str], None]) -> None:
    """Prints the treatments and what the partitioner has to say; writes model-info.txt."""
    table = treatments.summary(trainer.treatments, program.assigned, program.abstract.params)
    say(f"Parameters and their treatment (each of them: {directory / MODEL_INFO}):\n{table}")
    for note in program.notes:
        say(f"Note: {note}")
    if jax.process_index() == 0:
        (directory / MODEL_INFO).write_text(model_info(program))


def _keep_vocabulary(vocabulary: Any, directory: pathlib.Path) -> dict[str, Any]:
    """Describes the vocabulary (None: there is none) and copies its files into the run directory."""
    if vocabulary is None:
        return {}
    if jax.process_index() == 0:
        for path in map(pathlib.Path, vocabulary.files()):
            target = directory / checkpoints.VOCABULARY / path.name
            if not (target.exists() and target.samefile(path)):
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
    return vocabulary.to_dict()


def _check_data(
    saved: checkpoints.Description,
    now: checkpoints.Description,
    step: int,
    accept_change: bool,
    say: Callable[[str], None],
) -> None:
    """Raises RunDirectoryError where the checkpoint was trained on other batches."""
    if saved.fingerprint == now.fingerprint:
        return
    text = (
        f"The data of this run have changed since step {step}: their fingerprint was {saved.fingerprint} "
        f"({', '.join(saved.task_names)}) and is {now.fingerprint} ({', '.join(now.task_names)})"
    )
    if not accept_change:
        raise run_directory.RunDirectoryError(
            f"{text}. Going on would not give the batches of an uninterrupted run. Bring back the data set, its "
            "vocabulary and its tasks as they were, or go on with the new ones by --accept_config_change."
        )
    say(f"{text}: the run goes on with the new ones.")


def _first_state(run: _Run, say: Callable[[str], None]) -> State:
    """The checkpoint's state, or a fresh one with the weights of the initial sources."""
    with run.watch.measure("restore" if run.start else "initialise"):
        if run.origin is not None:
            say(f"Beginning at step {run.start} with the state of {run.origin}.")
            return branching.restore(run.origin, run.start, run.program.abstract)
        if run.start:
            say(f"Resuming {run.directory} from step {run.start}.")
            return run.checkpoints.restore(run.start, run.program.abstract)
        state = run.program.initial_state()
        params = initialise.initialise(run.trainer.initial_sources, state.params, say)
        optimizer = state.optimizer
        if run.trainer.initial_optimizer:
            optimizer = branching.carry_optimizer(run.trainer.initial_optimizer, optimizer, say)
        return dataclasses.replace(state, params=params, optimizer=optimizer)


def _recorder(run: _Run, log: Any, display: Any) -> Recorder:
    devices = run.program.mesh.devices.flatten()
    peak = flops.peak_flops(devices[0])
    return Recorder(
        task_names=run.task_names,
        batch_size=run.trainer.data.batch_size,
        train_steps=run.trainer.train_steps,
        log_every=run.trainer.log_every,
        log=log,
        display=display,
        watch=run.watch,
        flops_and_peak=None if peak is None else (flops.model_flops(run.program), peak * len(devices)),
        counts_tokens=isinstance(run.program.abstract_batch, TextBatch),
        skips_non_finite=run.trainer.non_finite == "skip",
    )


def _evaluation_is_due(trainer: Trainer, done: int) -> bool:
    every = trainer.evaluator.every_steps
    return bool(every) and done > 0 and (done % every == 0 or done == trainer.train_steps)


def _is_evaluated(run: _Run) -> bool:
    """Whether the step from which a run goes on was evaluated before it was saved: not if it had to stop quickly."""
    rows = run_log.read(run.directory)
    found = any(row["step"] == run.start and any(name.startswith("eval/") for name in row) for row in rows)
    return bool(processes.agree(found))


def _save_and_stop(
    run: _Run, recorder: Recorder, done: int, state: State, say: Callable[[str], None]
) -> stopping.Preempted:
    if done > run.start:
        with recorder.pause("save"):
            run.checkpoints.save(done, state)
            run.checkpoints.finish()
    recorder.finish(done)
    say(f"Asked to stop: step {done} is saved. The same command goes on from there.")
    return stopping.Preempted(done)


def _say(text: str) -> None:
    print(text, flush=True)


def _say_nothing(text: str) -> None:
    pass
