import jax
import numpy as np
import pytest

from paligax.models import Classifier
from paligax.training import InitialSource, branching, loop, partitioning, schedules, step, train
from paligax.training.checkpoints import CheckpointError, name_of
from paligax.training.optimizers import Adafactor, AdamW
from paligax.training.state import Program
from tests.training import toy

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


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return tmp_path_factory.mktemp("first")


def _job(steps, **overrides):
    return toy.job("labels", steps=steps, keep=9, **overrides)


def _same(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y)), a, b))


def _names(tree):
    return {name_of(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


@pytest.mark.slow
def test_a_branch_goes_on_as_the_run_itself_would(first, tmp_path, capsys):
    whole = train(_job(6), first, "")
    branch = train(_job(6, branch_from=str(first / "checkpoints" / "4")), tmp_path, "")
    assert int(branch.step) == 6 and _same(branch, whole)
    said = capsys.readouterr().out
    assert f"Beginning at step 4 with the state of {first / 'checkpoints' / '4'}" in said
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["6"]
    again = train(_job(8, branch_from=str(first)), tmp_path, "")  # its own checkpoint comes first
    assert "Resuming" in capsys.readouterr().out and int(again.step) == 8


@pytest.mark.slow
def test_a_cool_down_is_a_branch_with_another_schedule(first, tmp_path):
    whole = train(_job(6), first, "")
    rate = schedules.CoolDown(schedules.InverseSquareRoot(1e-2, 10), total_steps=6, cooldown_steps=1)
    job = _job(6, branch_from=str(first / "checkpoints" / "4"), optimizer=Adafactor(rate, min_size_to_factor=16))
    # The rate is the same until one step before the end.
    assert [float(job.optimizer.learning_rate(s) / rate.schedule(s)) for s in (3, 4, 5)] == [1, 1, 1]
    assert float(rate(6)) == 0
    slower = schedules.CoolDown(rate.schedule, total_steps=6, cooldown_steps=4)
    assert float(slower(5) / rate.schedule(5)) == 0.25
    ended = train(job, tmp_path, "")
    assert _same(ended.optimizer.count, whole.optimizer.count)
    np.testing.assert_allclose(
        np.asarray(ended.params["head"]["bias"]), np.asarray(whole.params["head"]["bias"]), atol=1e-6
    )


def test_what_does_not_fit_is_told_before_training(first, tmp_path):
    train(_job(6), first, "")
    with pytest.raises(ValueError, match="step 6 of .*more than 6 are needed"):
        train(_job(6, branch_from=str(first)), tmp_path / "a", "")
    with pytest.raises(CheckpointError, match="does not fit this run"):
        train(_job(8, branch_from=str(first), optimizer=AdamW(schedules.Constant(1e-3))), tmp_path / "b", "")
    with pytest.raises(FileNotFoundError, match="No checkpoint at"):
        train(_job(8, branch_from=str(tmp_path / "nothing")), tmp_path / "c", "")
    with pytest.raises(ValueError, match="leave initial_sources"):
        _job(8, branch_from=str(first), initial_sources=(InitialSource("x"),))


def test_the_optimizers_state_is_carried_over_where_it_fits(first, tmp_path):
    trained = train(_job(6), first, "")
    program = toy.program(_job(6))
    said = []
    carried = branching.carry_optimizer(str(first), toy.random_state(program).optimizer, said.append)
    assert _same(carried, trained.optimizer)
    assert said == [
        f"Optimizer state from {first / 'checkpoints' / '6'}: {len(_names(carried))} of {len(_names(carried))} leaves."
    ]

    wider = toy.program(_job(6, model=Classifier(vision=toy.vit(), num_classes=12)))
    fresh = toy.random_state(wider).optimizer
    found = _names(branching.carry_optimizer(str(first), fresh, said.append))
    before = _names(trained.optimizer)
    for name, leaf in found.items():
        same_shape = before[name].shape == leaf.shape
        np.testing.assert_array_equal(leaf, before[name] if same_shape else np.zeros(leaf.shape))
        assert same_shape == ("head/" not in name)
    assert any("head/kernel" in line and "fresh: (16, 8) there" in line for line in said)
    assert int(found["count"]) == 6


def test_another_optimizers_state_is_refused(first):
    train(_job(6), first, "")
    other = toy.random_state(toy.program(_job(6, optimizer=AdamW(schedules.Constant(1e-3))))).optimizer
    with pytest.raises(ValueError, match="of another optimizer or model"):
        branching.carry_optimizer(str(first), other, print)


def test_a_stage_can_begin_with_the_moments_of_the_last(first, tmp_path, capsys):
    trained = train(_job(6), first, "")
    stage = _job(2, initial_sources=(InitialSource(str(first)),), initial_optimizer=str(first))
    state = loop.train(stage, tmp_path, "")
    assert int(state.step) == 2 and int(state.optimizer.count) == int(trained.optimizer.count) + 2
    assert "Optimizer state from" in capsys.readouterr().out
