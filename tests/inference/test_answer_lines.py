import json
import pathlib
import shutil

import pytest

from paligax.inference.answer_lines import Lines

JOB = {"model": "a", "seed": 1}


def line(at):
    return {"id": at, "prediction": "é" * (at % 3)}


def fill(path, total, processes=1, stop=None, multiple=4):
    """A job's start: writes what is missing, up to ``stop`` batches; the processes take turns within a batch."""
    lines = Lines(path, JOB, total)
    done = lines.begin(multiple)
    if done < total:
        parts = [Lines(path, JOB, total) for _ in range(processes)]
        for process, part in enumerate(parts):
            part.open(process)
        for batch in list(range(done, total, multiple))[:stop]:
            for process, part in enumerate(parts):
                of_this = range(batch, min(batch + multiple, total))[process::processes]
                part.write({at: line(at) for at in of_this})
        for part in parts:
            part.close()
    return lines, done


@pytest.fixture
def whole(tmp_path):
    lines, _ = fill(tmp_path / "whole.jsonl", 11)
    lines.finish({"errors": {}})
    return (tmp_path / "whole.jsonl").read_bytes()


def test_the_file_appears_whole_with_its_summary(tmp_path, whole):
    assert [json.loads(text) for text in whole.splitlines()] == [line(at) for at in range(11)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["whole.jsonl", "whole.jsonl.summary.json"]
    summary = json.loads((tmp_path / "whole.jsonl.summary.json").read_text())
    assert summary == {"job": {**JOB, "questions": 11}, "errors": {}}


def test_a_job_killed_at_any_byte_goes_on_and_ends_alike(tmp_path, whole):
    """Cut within each of its lines: nothing is lost, doubled or computed in another group."""
    begun = tmp_path / "begun.jsonl"
    fill(begun, 11, stop=2)
    part = pathlib.Path(f"{begun}.unfinished/part-00000").read_bytes()
    starts = set()
    ends = [end for end in range(len(part) + 1) if end == 0 or part[end - 1 : end] == b"\n"]
    for size in {size for end in ends for size in (end - 1, end, end + 1, end + 2, end + 9) if 0 <= size <= len(part)}:
        path = tmp_path / f"{size}.jsonl"
        shutil.copytree(f"{begun}.unfinished", f"{path}.unfinished")
        pathlib.Path(f"{path}.unfinished/part-00000").write_bytes(part[:size])
        lines, done = fill(path, 11)
        lines.finish({})
        starts.add(done)
        assert path.read_bytes() == whole
    assert starts == {0, 4, 8}


def test_several_processes_and_other_numbers_of_them(tmp_path, whole):
    path = tmp_path / "o.jsonl"
    assert fill(path, 11, processes=3, stop=1)[1] == 0
    assert fill(path, 11, processes=2, stop=1)[1] == 4
    lines, done = fill(path, 11, processes=1)
    lines.finish({})
    assert done == 8 and path.read_bytes() == whole


def test_a_process_that_was_behind_makes_its_group_anew(tmp_path, whole):
    path = tmp_path / "o.jsonl"
    fill(path, 11, processes=2, stop=2)
    part = pathlib.Path(f"{path}.unfinished/part-00001")
    part.write_bytes(b"".join(part.read_bytes().splitlines(True)[:3]))
    lines, done = fill(path, 11, processes=2)
    lines.finish({})
    assert done == 4 and path.read_bytes() == whole


def test_killed_while_finishing(tmp_path, whole):
    """Between any two of the last renames."""
    path = tmp_path / "o.jsonl"
    lines, _ = fill(path, 11)
    shutil.copytree(f"{path}.unfinished", tmp_path / "kept")
    lines.finish({})
    shutil.copytree(tmp_path / "kept", f"{path}.unfinished")  # not yet removed
    assert Lines(path, JOB, 11).begin(4) == 11 and not pathlib.Path(f"{path}.unfinished").exists()
    path.unlink()
    shutil.copytree(tmp_path / "kept", f"{path}.unfinished")  # not yet renamed
    lines, done = fill(path, 11)
    lines.finish({})
    assert done == 11 and path.read_bytes() == whole


def test_another_job_does_not_go_on(tmp_path):
    path = tmp_path / "o.jsonl"
    fill(path, 11, stop=1)
    with pytest.raises(ValueError, match="begun otherwise:\n  seed was 1, is 2\nGive the same words"):
        Lines(path, JOB | {"seed": 2}, 11).begin(4)
    with pytest.raises(ValueError, match="questions was 11, is 12"):
        Lines(path, JOB, 12).begin(4)
    lines, _ = fill(path, 11)
    lines.finish({})
    with pytest.raises(FileExistsError, match="not of this very job"):
        Lines(path, JOB | {"seed": 2}, 11).begin(4)
    assert Lines(path, JOB, 11).begin(4) == 11


def test_missing_lines_are_no_finished_file(tmp_path):
    path = tmp_path / "o.jsonl"
    lines, _ = fill(path, 11, stop=2)
    with pytest.raises(OSError, match="of 11 lines 8 are there: every process must write to the same directory"):
        lines.finish({})
    assert not path.exists()


def test_a_full_disk_says_how_to_go_on(tmp_path):
    lines = Lines(tmp_path / "o.jsonl", JOB, 3)
    lines.begin(1)
    lines._file = open("/dev/full", "wb", buffering=0)
    with pytest.raises(OSError, match="No space left on device.*Give the same command again when there is room"):
        lines.write({0: line(0)})
    lines._file.close()
