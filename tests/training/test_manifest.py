import pytest

from paligax.training import manifest


@pytest.fixture
def written(tmp_path):
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "a").write_bytes(b"0123456789" * 100)
    (tmp_path / "config.gin").write_text("x = 1\n")
    manifest.write(tmp_path)
    return tmp_path


def test_untouched_files_have_no_fault(written):
    assert manifest.exists(written) and manifest.fault(written) == ""


def test_what_the_checkpoint_library_touches_later_does_not_count(written):
    (written / "_CHECKPOINT_METADATA").write_text("{}")
    (written / "params" / "stray").write_text("left by somebody")
    assert manifest.fault(written) == ""


def test_without_a_manifest_it_was_interrupted(tmp_path):
    assert not manifest.exists(tmp_path) and "interrupted" in manifest.fault(tmp_path)


def test_a_file_cut_short(written):
    (written / "params" / "a").write_bytes(b"0123456789" * 99)
    assert manifest.fault(written) == "params/a has 990 bytes instead of 1000"


def test_a_changed_byte(written):
    (written / "params" / "a").write_bytes(b"0123456789" * 99 + b"012345678X")
    assert "params/a has changed" in manifest.fault(written)
    assert manifest.fault(written, under="config") == "", "only what is below"


def test_a_missing_file(written):
    (written / "config.gin").unlink()
    assert manifest.fault(written) == "config.gin is missing"


def test_an_unreadable_manifest(written):
    (written / manifest.NAME).write_text('{"files": {')
    assert "can't be read" in manifest.fault(written)
