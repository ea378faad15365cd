import shutil

import jax
import numpy as np
import pytest

from paligax.training import checkpoints, manifest
from paligax.training.checkpoints import CheckpointError


def equal(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: x.dtype == y.dtype and np.array_equal(x, y), a, b))


def damage(directory):
    """Cuts the largest file of a step short."""
    file = max((path for path in (directory / "params").rglob("d/*")), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-2])


def names(saved):
    return sorted(path.name for path in saved.directory.iterdir())


def test_what_is_saved_comes_back(saved, make_state, abstract):
    run, state = saved(), make_state(2.0)
    assert run.newest() is None
    run.save(2, state)
    run.finish()
    again = saved()
    assert again.newest() == 2
    restored = again.restore(2, abstract(state))
    assert equal(restored, state)
    assert jax.tree.all(jax.tree.map(lambda x, y: x.sharding == y.sharding, restored, abstract(state)))
    assert again.description(2).task_names == ("caption", "vqa")


def test_saving_survives_the_donation_of_the_state(saved, make_state, abstract):
    step = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
    state = step(make_state(1.0, shape=(700, 900)))
    run = saved()
    run.newest()
    for value in (2, 22):
        run.save(value, state)
        for _ in range(20):
            state = step(state)
    run.finish()
    for value in (2, 22):
        assert np.unique(run.restore(value, abstract(state)).params["language"]["encoder"]["kernel"]) == [value]


def test_the_newest_are_kept(saved, make_state):
    run = saved(keep=2)
    run.newest()
    for step in (1, 2, 3, 10):
        run.save(step, make_state(step))
    run.finish()
    assert names(run) == ["10", "3"]


def test_keep_must_be_positive(saved):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        saved(keep=0)


def test_remains_of_interrupted_saves_are_removed(saved, make_state, lines):
    run = saved()
    run.newest()
    for step in (1, 2):
        run.save(step, make_state(step))
    run.finish()
    (run.directory / "2" / manifest.NAME).unlink()  # killed between arrays and manifest
    shutil.copytree(run.directory / "1", run.directory / "3.orbax-checkpoint-tmp")  # killed while writing arrays
    shutil.copytree(run.directory / "1", run.directory / "0.deleting")
    again = saved()
    assert again.newest() == 1 and names(again) == ["1"]
    assert any("2 is passed over: it has no manifest.json: writing it was interrupted" in line for line in lines)


def test_the_very_first_save_interrupted_is_set_aside(saved, make_state, lines):
    run = saved()
    run.newest()
    run.save(1, make_state())
    run.finish()
    (run.directory / "1" / manifest.NAME).unlink()
    assert saved().newest() is None and names(run) == ["1.damaged"]
    assert lines[-1] == "The run goes on from step 0."


def test_many_checkpoints_without_manifests_are_a_bad_copy_and_no_fresh_start(saved, make_state):
    run = saved()
    run.newest()
    for step in (1, 2):
        run.save(step, make_state())
    run.finish()
    for step in (1, 2):
        (run.directory / str(step) / manifest.NAME).unlink()
    with pytest.raises(CheckpointError, match="is whole"):
        saved().newest()
    assert names(run) == ["1", "2"], "nothing is removed"


def test_a_damaged_checkpoint_is_passed_over_and_said(saved, make_state, lines):
    run = saved()
    run.newest()
    for step in (1, 2):
        run.save(step, make_state(step))
    run.finish()
    damage(run.directory / "2")
    again = saved()
    assert again.newest() == 1 and names(again) == ["1", "2.damaged"]
    assert any("2 is passed over" in line and "bytes instead of" in line for line in lines)
    assert any("goes on from step 1" in line for line in lines)
    again.save(2, make_state(2))  # its place is free
    again.finish()
    assert again.newest() == 2


def test_only_damaged_checkpoints_are_no_fresh_start(saved, make_state):
    run = saved()
    run.newest()
    run.save(1, make_state())
    run.finish()
    damage(run.directory / "1")
    with pytest.raises(CheckpointError, match="is whole"):
        saved().newest()
    assert names(run) == ["1"], "nothing is removed"


def test_another_model_is_refused_with_every_difference(saved, make_state, abstract):
    run = saved()
    run.newest()
    run.save(1, make_state())
    run.finish()
    other = abstract(make_state(shape=(3, 5)))
    other.params["language"]["more"] = other.params["vision"].pop("norm")
    with pytest.raises(CheckpointError) as caught:
        run.check_fit(1, other)
    text = str(caught.value)
    assert "language/encoder/kernel has shape (3, 4) in the checkpoint, (3, 5) in the run" in text
    assert "language/more is not in the checkpoint" in text
    assert "vision/norm is in the checkpoint and not in the run" in text and "initial_sources" in text


def test_a_disk_without_room_is_refused_before_writing(saved, make_state, monkeypatch):
    run = saved()
    run.newest()
    run.save(1, make_state())
    run.finish()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(CheckpointError) as caught:
        run.save(2, make_state())
    assert "GiB free" in str(caught.value) and "Checkpoint 1 and older ones are untouched" in str(caught.value)
    assert names(run) == ["1"]


def test_an_error_in_the_background_is_raised_and_leaves_nothing_half(saved, make_state, monkeypatch):
    run = saved()
    run.newest()
    run.save(1, make_state())
    run.finish()

    def full(directory):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "write", full)
    run.save(2, make_state())
    with pytest.raises(CheckpointError, match="step 2 could not be written .* no space left on device"):
        run.finish()
    assert names(run) == ["1"]
    monkeypatch.undo()
    run.save(2, make_state())
    run.finish()
    assert checkpoints.find(run.directory).name == "2"
