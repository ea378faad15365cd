import dataclasses
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from paligax.training import run_directory
from paligax.training.run_directory import Lock, RunDirectoryError, check_config

CONFIG = "# made by paligax\nTrainer.seed = 1\n\nViT.depth = 2\n"


def test_a_fresh_directory_gets_the_config(tmp_path, lines):
    check_config(tmp_path, CONFIG, False, lines.append)
    assert (tmp_path / "config.gin").read_text() == CONFIG and not lines


def test_the_same_config_is_fine_whatever_its_comments(tmp_path, lines):
    check_config(tmp_path, CONFIG, False, lines.append)
    check_config(tmp_path, "Trainer.seed = 1\nViT.depth = 2\n# other\n", False, lines.append)
    assert (tmp_path / "config.gin").read_text() == CONFIG and not lines


def test_another_config_is_refused_with_the_lines_that_differ(tmp_path, lines):
    check_config(tmp_path, CONFIG, False, lines.append)
    with pytest.raises(RunDirectoryError) as caught:
        check_config(tmp_path, CONFIG.replace("depth = 2", "depth = 3"), False, lines.append)
    text = str(caught.value)
    assert "- ViT.depth = 2" in text and "+ ViT.depth = 3" in text and "seed" not in text
    assert f"--gin_file={tmp_path}/config.gin" in text and "--model_dir" in text and "--accept_config_change" in text
    assert (tmp_path / "config.gin").read_text() == CONFIG


def test_a_change_can_be_accepted_and_the_old_config_stays(tmp_path, lines):
    for number in (2, 3, 4):
        check_config(tmp_path, CONFIG.replace("2", str(number)), True, lines.append)
    assert "depth = 4" in (tmp_path / "config.gin").read_text()
    assert "depth = 2" in (tmp_path / "config.gin.1").read_text()
    assert "depth = 3" in (tmp_path / "config.gin.2").read_text()
    assert "+ ViT.depth = 3" in lines[0]


@pytest.fixture
def other_process():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()


def owner(process, host=None):
    mine = run_directory._Owner.me()
    return dataclasses.replace(
        mine, pid=process.pid, started=run_directory._started(process.pid), host=host or mine.host
    )


def test_a_second_job_is_refused_while_the_first_is_alive(tmp_path, lines, other_process):
    owner(other_process).write(tmp_path / "lock.json")
    with pytest.raises(RunDirectoryError, match=f"Process {other_process.pid} on .* is training"):
        Lock(tmp_path, lines.append).__enter__()
    other_process.kill()
    other_process.wait()
    with Lock(tmp_path, lines.append):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    assert "is gone: taken over" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_a_dead_job_that_is_not_yet_buried_holds_nothing(tmp_path, lines, other_process):
    owner(other_process).write(tmp_path / "lock.json")
    other_process.kill()
    deadline = time.monotonic() + 10
    while run_directory._started(other_process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)  # a zombie until its parent waits
    with Lock(tmp_path, lines.append):
        pass


def test_a_later_process_with_the_same_pid_is_another(tmp_path, lines, other_process):
    dataclasses.replace(owner(other_process), started="another boot/1").write(tmp_path / "lock.json")
    with Lock(tmp_path, lines.append):
        pass


def test_the_lock_of_another_machine_is_taken_over_when_it_stands_still(tmp_path, lines, other_process):
    owner(other_process, host="elsewhere").write(tmp_path / "lock.json")
    with Lock(tmp_path, lines.append, patience=0.2):
        pass
    assert "elsewhere" in lines[0]


def test_the_lock_of_another_machine_is_respected_while_it_beats(tmp_path, lines, other_process):
    theirs = owner(other_process, host="elsewhere")
    theirs.write(tmp_path / "lock.json")
    beat = threading.Timer(0.3, lambda: dataclasses.replace(theirs, beat=1).write(tmp_path / "lock.json"))
    beat.start()
    with pytest.raises(RunDirectoryError, match="on elsewhere is training"):
        Lock(tmp_path, lines.append, patience=20.0).__enter__()
    beat.join()


def test_an_unreadable_lock_holds_nothing(tmp_path, lines):
    (tmp_path / "lock.json").write_text('{"host": "x", "p')
    with Lock(tmp_path, lines.append):
        pass


def test_the_owner_beats(tmp_path, lines, monkeypatch):
    monkeypatch.setattr(run_directory, "HEARTBEAT_SECONDS", 0.02)
    with Lock(tmp_path, lines.append):
        deadline = time.monotonic() + 10
        while json.loads((tmp_path / "lock.json").read_text())["beat"] < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert json.loads((tmp_path / "lock.json").read_text())["beat"] >= 2


def test_a_directory_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="can't be written: Not a directory. Choose another"):
        run_directory.make(tmp_path / "file" / "run")
    run_directory.make(tmp_path / "new" / "run")
    assert list((tmp_path / "new" / "run").iterdir()) == []


def test_a_bucket_is_no_run_directory_and_never_a_local_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunDirectoryError, match="gs:// is none"):
        run_directory.path_of("gs://bucket/runs/x")
    assert run_directory.path_of("runs/x") == tmp_path / "runs" / "x"
