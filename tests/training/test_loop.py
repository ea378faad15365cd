"""The loop with a real (tiny) model; compiled once for all tests, initialised without compiling."""

import dataclasses
import os
import signal

import jax
import numpy as np
import pytest

from paligax.training import (
    Evaluation,
    InitialSource,
    checkpoints,
    loop,
    partitioning,
    run_directory,
    run_log,
    step,
    stopping,
    train,
)
from paligax.training.checkpoints import CheckpointError
from paligax.training.state import Program
from tests.training import toy

CONFIG = "run = 'toy'\n"
_compiled = {}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    def compile_step(program):
        key = (str(program.module), program.mesh, repr(program.optimizer))
        if key not in _compiled:
            _compiled[key] = toy.fast(step.lower_step(program))
        return _compiled[key]

    monkeypatch.setattr(step, "compile_step", compile_step)
    monkeypatch.setattr(Program, "initial_state", toy.random_state)
    one = partitioning.Partitioner.mesh
    monkeypatch.setattr(partitioning.Partitioner, "mesh", lambda self, devices=None: one(self, jax.devices()[:1]))


def same_params(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, jax.tree.map(np.asarray, a), jax.tree.map(np.asarray, b)))


def losses(directory):
    return {row["step"]: row["loss"] for row in run_log.read(directory) if "loss" in row}


@dataclasses.dataclass
class Scores(Evaluation):
    """Remembers when it was called; acts before it answers."""

    every_steps: int = 2
    act: object = lambda step: None

    def __post_init__(self):
        self.steps = []

    def evaluate(self, step, module, params):
        self.steps.append(step)
        self.act(step)
        assert "vision" in params
        return {"vqa": {"accuracy": step / 10}}


def test_a_run_leaves_everything_behind(tmp_path, capsys):
    state = train(toy.trainer(5, evaluator=Scores()), tmp_path, CONFIG)
    assert int(state.step) == 5
    found = {path.name for path in tmp_path.iterdir()}
    written = {"checkpoints", "config.gin", "metrics.jsonl", "model-info.txt", "tensorboard"}
    assert found == written | {"starts.jsonl", "status.json"}
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["4", "5"]
    rows = run_log.read(tmp_path)
    assert [row["step"] for row in rows if "loss" in row] == [2, 4, 5]
    assert [(row["step"], row["eval/vqa/accuracy"]) for row in rows if "eval/vqa/accuracy" in row] == [
        (2, 0.2),
        (4, 0.4),
        (5, 0.5),
    ]
    assert rows[0]["skipped/vqa/empty text"] == 2 and {"loss/vqa", "accuracy/caption"} < set(rows[0])
    assert {"seconds/compile", "seconds/evaluate", "seconds/save"} < set(rows[-1])
    params, described = checkpoints.restore_params(tmp_path)
    assert same_params(params, state.params) and described.config == CONFIG
    assert (described.architecture["class"], described.vocabulary["class"]) == ("PaLI", "ByteVocabulary")
    printed = capsys.readouterr().out
    assert "52 arrays" in printed and "step 1/5  loss" in printed and "Compiled the train step" in printed


def test_a_second_call_says_that_it_is_done(tmp_path, capsys):
    first = train(toy.trainer(2), tmp_path, CONFIG)
    capsys.readouterr()
    second = train(toy.trainer(2), tmp_path, CONFIG)
    assert "is trained: step 2 of 2" in capsys.readouterr().out
    assert same_params(first, second)


@pytest.mark.slow
def test_a_run_that_is_prolonged_equals_one_in_a_piece(tmp_path):
    train(toy.trainer(3), tmp_path / "a", CONFIG)
    parts = train(toy.trainer(6), tmp_path / "a", CONFIG)
    whole = train(toy.trainer(6), tmp_path / "b", CONFIG)
    assert same_params(parts, whole)
    assert losses(tmp_path / "a")[6] == losses(tmp_path / "b")[6]


def test_a_resumed_run_evaluates_what_was_left_out_and_nothing_twice(tmp_path):
    stopped = Scores(act=lambda step: step == 2 and os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(stopping.Preempted):
        train(toy.trainer(6, evaluator=stopped), tmp_path, CONFIG)
    again, longer = Scores(), Scores()
    train(toy.trainer(4, evaluator=again), tmp_path, CONFIG)
    assert stopped.steps == [2] and again.steps == [2, 4], "the one that the signal came into is done again"
    train(toy.trainer(6, evaluator=longer), tmp_path, CONFIG)
    assert longer.steps == [6]


def test_sigterm_saves_and_exits_and_the_run_goes_on_as_if_nothing_had_been(tmp_path, capsys):
    class Stopping(toy.Stream):
        def batches(self, start_step=0):
            for item in super().batches(start_step):
                if item.step == 5:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield item

    class Data(toy.Data):
        def stream(self, shard_index=0, num_shards=1):
            return Stopping(self, shard_index, num_shards)

    with pytest.raises(SystemExit) as caught:
        train(toy.trainer(9, data=Data(), checkpoint_every=100), tmp_path, CONFIG)
    assert caught.value.code == 75
    stopped = int(next((tmp_path / "checkpoints").iterdir()).name)
    assert 0 < stopped < 9 and f"step {stopped} is saved" in capsys.readouterr().out
    parts = train(toy.trainer(9), tmp_path, CONFIG)
    assert f"Resuming {tmp_path} from step {stopped}" in capsys.readouterr().out
    assert same_params(parts, train(toy.trainer(9), tmp_path / "whole", CONFIG))


def test_another_configuration_is_refused(tmp_path):
    train(toy.trainer(2), tmp_path, CONFIG)
    with pytest.raises(run_directory.RunDirectoryError, match=r"(?s)- run = 'toy'.*\+ run = 'other'"):
        train(toy.trainer(4), tmp_path, "run = 'other'\n")
    assert int(train(toy.trainer(4), tmp_path, "run = 'other'\n", accept_config_change=True).step) == 4


def test_other_data_are_refused(tmp_path):
    train(toy.trainer(2), tmp_path, CONFIG)
    changed = toy.trainer(4, data=toy.Data(salt="x"))
    with pytest.raises(run_directory.RunDirectoryError, match="data of this run have changed since step 2"):
        train(changed, tmp_path, CONFIG)
    assert int(train(changed, tmp_path, CONFIG, accept_config_change=True).step) == 4


def test_another_model_is_refused(tmp_path):
    train(toy.trainer(2), tmp_path, CONFIG)
    with pytest.raises(CheckpointError, match="language/encoder/mlp/wi_0/kernel has shape"):
        train(toy.trainer(4, model=toy.pali(mlp_dim=24)), tmp_path, CONFIG)


def test_a_loss_that_is_not_finite_stops_before_it_is_saved(tmp_path):
    with pytest.raises(run_log.NonFiniteLoss) as caught:
        train(toy.trainer(8, data=toy.Data(poison=3)), tmp_path, CONFIG)
    text = str(caught.value)
    assert text.startswith("Step 4:") and "not finite in vqa" in text and "vqa:3-1:0" in text
    assert checkpoints.find(tmp_path).name == "2"


def test_an_error_in_the_data_stops_the_run_and_keeps_what_is_saved(tmp_path):
    with pytest.raises(OSError, match="the shard is gone"):
        train(toy.trainer(8, data=toy.Data(fail=3)), tmp_path, CONFIG)
    assert checkpoints.find(tmp_path).name == "2"
    assert int(train(toy.trainer(4), tmp_path, CONFIG).step) == 4, "the lock is free, and the run goes on"


def test_a_batch_that_does_not_fit_the_mesh_is_refused_before_data_are_read(tmp_path):
    with pytest.raises(ValueError, match="batch_size=7 must be a multiple"):
        train(toy.trainer(2, data=toy.Data(batch_size=7), num_microbatches=2), tmp_path, CONFIG)


def test_a_run_starts_from_other_runs_weights(tmp_path, capsys):
    source = train(toy.trainer(2), tmp_path / "a", CONFIG)
    sources = (InitialSource(str(tmp_path / "a"), (("vision", "vision"),)),)
    train(toy.trainer(1, initial_sources=sources), tmp_path / "b", CONFIG)
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("  vision/") and "from" in line]
    assert len(lines) == 21 and "left at its initialisation" in printed
    assert int(source.step) == 2


def test_the_vocabularys_file_is_kept_in_the_run_directory(tmp_path):
    class Vocabulary:
        size, num_sentinels, extra_ids = 64, 0, 0

        def files(self):
            return [str(tmp_path / "words.model")]

        def to_dict(self):
            return {"class": "SentencePieceVocabulary", "path": self.files()[0], "extra_ids": 0}

    (tmp_path / "words.model").write_text("pieces")
    train(toy.trainer(1, data=toy.Data(vocabulary=Vocabulary())), tmp_path / "run", CONFIG)
    (tmp_path / "words.model").unlink()
    _, described = checkpoints.restore_params(tmp_path / "run", "projection")
    assert described.vocabulary["path"] == str(tmp_path / "run" / "vocabulary" / "words.model")


def test_the_order_is_evaluate_save_next_batch_step_log(tmp_path, monkeypatch):
    order = []
    monkeypatch.setattr(loop.Prefetch, "__next__", spy(order, "next", loop.Prefetch.__next__))
    monkeypatch.setattr(loop.Recorder, "step", spy(order, "log", loop.Recorder.step))
    monkeypatch.setattr(loop.Checkpoints, "save", spy(order, "save", loop.Checkpoints.save))
    train(toy.trainer(3, evaluator=Scores(act=lambda step: order.append("evaluate"))), tmp_path, CONFIG)
    assert order == ["next", "log"] * 2 + ["evaluate", "save", "next", "log", "evaluate", "save"]


def spy(order, name, function):
    def call(*args):
        order.append(name)
        return function(*args)

    return call
