import errno

import pytest

from paligax.inference import whole


def test_a_directory_appears_when_it_is_whole(tmp_path):
    place = tmp_path / "deep" / "model"
    with whole.directory(place) as partial:
        (partial / "file").write_text("new")
        assert not place.exists()
    assert (place / "file").read_text() == "new" and [p.name for p in place.parent.iterdir()] == ["model"]
    with whole.directory(place) as partial:
        (partial / "other").write_text("newer")
        assert (place / "file").read_text() == "new"
    assert [p.name for p in place.iterdir()] == ["other"] and [p.name for p in place.parent.iterdir()] == ["model"]


def test_an_error_leaves_what_was_there(tmp_path):
    place = tmp_path / "model"
    place.mkdir()
    (place / "file").write_text("old")
    with pytest.raises(OSError, match=f"to '{place}' could not be written: .*No space left.*Nothing is left of it"):
        with whole.directory(place) as partial:
            (partial / "file").write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ValueError, match="of ours"):
        with whole.directory(place):
            raise ValueError("of ours")
    assert (place / "file").read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["model"]


def test_only_a_free_place_is_one(tmp_path):
    (tmp_path / "empty").mkdir()
    assert whole.check_place(tmp_path / "empty") and whole.check_place(tmp_path / "none")
    (tmp_path / "empty" / "file").write_text("")
    with pytest.raises(FileExistsError, match="would be overwritten: choose another path"):
        whole.check_place(tmp_path / "empty")
