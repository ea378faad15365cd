import numpy as np
import pytest

from paligax.training import checkpoints
from paligax.training.checkpoints import CheckpointError, Description, restore_params


@pytest.fixture
def run_directory(saved, make_state, tmp_path):
    run = saved()
    run.newest()
    for step in (3, 20):
        run.save(step, make_state(step))
    run.finish()
    return tmp_path


@pytest.mark.parametrize("place, value", [("", 20), ("checkpoints", 20), ("checkpoints/3", 3)])
def test_a_run_its_checkpoints_or_one_step_can_be_opened(run_directory, place, value, description):
    params, described = restore_params(run_directory / place)
    assert np.unique(params["language"]["encoder"]["kernel"]) == [value]
    assert isinstance(params["vision"]["norm"], np.ndarray) and params["language"]["scale"].shape == ()
    assert described == description
    directory, described = checkpoints.describe(run_directory / place)
    assert directory == run_directory / "checkpoints" / str(value) and described == description


def test_a_subtree_is_read_alone_and_without_the_optimizer(run_directory):
    step = run_directory / "checkpoints" / "20"
    for file in (step / "optimizer").rglob("*"):
        if file.is_file():
            file.unlink()
    params, _ = restore_params(step, "language/encoder")
    assert list(params) == ["language"] and list(params["language"]) == ["encoder"]
    params, _ = restore_params(step, "language/scale")
    assert params == {"language": {"scale": 20}}


def test_an_unknown_subtree_names_what_there_is(run_directory):
    with pytest.raises(CheckpointError, match="no parameters under 'vison'; it has language, vision"):
        restore_params(run_directory, "vison")


def test_the_newest_whole_one_is_taken(run_directory, lines):
    file = next((run_directory / "checkpoints" / "20" / "params").rglob("d/*"))
    file.write_bytes(b"")
    params, _ = restore_params(run_directory, say=lines.append)
    assert np.unique(params["vision"]["norm"]) == [3]
    assert len(lines) == 1 and "20 is passed over" in lines[0]
    with pytest.raises(CheckpointError, match="is damaged"):
        restore_params(run_directory / "checkpoints" / "20")


def test_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a run directory"):
        restore_params(tmp_path)


def test_description_is_read_back(tmp_path, description):
    description.write(tmp_path, 7)
    assert Description.read(tmp_path) == description
    assert (tmp_path / "config.gin").read_text() == description.config


def test_a_vocabulary_file_that_is_gone_is_replaced_by_the_runs_copy(saved, make_state, tmp_path, description):
    import dataclasses

    run = saved()
    run.newest()
    gone = {"class": "SentencePieceVocabulary", "path": "/nowhere/words.model", "extra_ids": 0}
    run._description = dataclasses.replace(description, vocabulary=gone)
    run.save(1, make_state())
    run.finish()
    assert restore_params(tmp_path)[1].vocabulary == gone
    copy = tmp_path / checkpoints.VOCABULARY / "words.model"
    copy.parent.mkdir()
    copy.write_text("pieces")
    assert restore_params(tmp_path)[1].vocabulary["path"] == str(copy)
