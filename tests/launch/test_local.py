"""launch/local: what it starts, prints, forwards and returns. A stand-in for paligax is what it launches."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from tests.tiny_run import GIN, write_records

LOCAL = pathlib.Path(__file__).resolve().parents[2] / "launch" / "local"


@pytest.fixture
def start(tmp_path):
    """start(main) runs launch/local in a directory whose package `paligax` has this __main__.py."""
    started = []

    def start(main: str, *words: str, processes: int = 2, restarts: int = 0) -> subprocess.Popen:
        package = tmp_path / "paligax"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text("")
        (package / "__main__.py").write_text(
            "import os, signal, sys, time\nME = os.environ['PALIGAX_PROCESS_ID']\n" + main
        )
        process = subprocess.Popen(
            [sys.executable, LOCAL, f"--num_processes={processes}", f"--restarts={restarts}", "--", "train", *words],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


def test_every_process_learns_who_it_is_and_its_lines_are_marked(start):
    process = start(
        textwrap.dedent("""
            names = ("PALIGAX_COORDINATOR", "PALIGAX_NUM_PROCESSES")
            print(sys.argv[1:], *(os.environ[name] for name in names))
        """),
        "--gin_file=a b.gin",
        processes=3,
    )
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    lines = sorted(output.splitlines())
    assert [line[:3] for line in lines] == ["[0]", "[1]", "[2]"]
    assert len({line[4:] for line in lines}) == 1, "all get the same words and the same coordinator"
    assert "['train', '--gin_file=a b.gin'] 127.0.0.1:" in lines[0] and lines[0].endswith(" 3")


def test_when_one_dies_the_others_are_ended_and_its_exit_code_is_returned(start):
    process = start("if ME == '1': sys.exit(7)\ntime.sleep(600)\n", processes=3)
    process.communicate(timeout=30)
    assert process.returncode == 7


def test_a_process_killed_by_a_signal_gives_128_plus_its_number(start):
    process = start("if ME == '0': os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(600)\n")
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGKILL


# Each start takes the next code of the list from process 1; process 0 then loses it.
NEXT_CODE = """
import pathlib
codes = pathlib.Path("codes").read_text().split()
if ME == "1":
    pathlib.Path("codes").write_text(" ".join(codes[1:]))
    code = int(codes[0])
    if code < 0: os.kill(os.getpid(), -code)
    sys.exit(code)
while pathlib.Path("codes").read_text().split() == codes: time.sleep(0.01)
time.sleep(0.5)
sys.exit(76 if codes[0] != "0" else 0)
"""


@pytest.mark.parametrize(
    "codes, restarts, starts, code",
    [("75 76 79 -9 0", 9, 5, 0), ("-9 1 0", 9, 2, 1), ("-9 -9 -9 0", 2, 3, 137), ("2 0", 9, 1, 2), ("75 0", 0, 1, 75)],
)
def test_all_are_started_again_where_that_helps(start, tmp_path, codes, restarts, starts, code):
    (tmp_path / "codes").write_text(codes)
    process = start(NEXT_CODE, restarts=restarts)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert output.count("started again") == starts - 1


def test_asked_to_stop_nothing_is_started_again(start):
    saved = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\nprint('ready')\ntime.sleep(60)\n"
    process = start(saved, restarts=5)
    assert [process.stdout.readline()[4:] for _ in range(2)] == ["ready\n"] * 2
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 75 and "again" not in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_all_processes_are_asked_to_stop(start, number):
    process = start(
        textwrap.dedent("""
            def stop(received, frame):
                print("got", received)
                sys.exit(3)
            signal.signal(signal.SIGTERM, stop)
            print("ready")
            time.sleep(600)
        """)
    )
    lines = [process.stdout.readline(), process.stdout.readline()]
    assert sorted(lines) == ["[0] ready\n", "[1] ready\n"]
    time.sleep(0.2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert "[0] got 15\n" in output and "[1] got 15\n" in output
    assert process.returncode == 3


def test_a_second_ctrl_c_ends_them(start):
    process = start(
        textwrap.dedent("""
            signal.signal(signal.SIGTERM, lambda *_: print("saving"))
            print("ready")
            while True:
                time.sleep(9)
        """)
    )
    assert [process.stdout.readline()[4:] for _ in range(2)] == ["ready\n"] * 2
    process.send_signal(signal.SIGINT)
    assert [process.stdout.readline()[4:] for _ in range(2)] == ["saving\n"] * 2
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGKILL


def test_dry_run_prints_the_commands_and_starts_nothing(tmp_path):
    command = [sys.executable, LOCAL, "--num_processes=2", "--dry_run", "--", "train", "--gin_file=x y.gin"]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(output) == 2
    assert "PALIGAX_PROCESS_ID=1" in output[1] and output[1].endswith("-m paligax train '--gin_file=x y.gin'")


def test_no_process_is_refused():
    done = subprocess.run([sys.executable, LOCAL, "--num_processes=0", "--", "train"], capture_output=True, text=True)
    assert done.returncode == 2 and "at least 1" in done.stderr


def test_the_script_can_be_executed():
    assert os.access(LOCAL, os.X_OK)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # one device a process
    write_records()
    pathlib.Path("tiny.gin").write_text(GIN)
    train = ["train", "--gin_file=tiny.gin", "--gin.Trainer.log_every=1"]
    subprocess.run([sys.executable, "-m", "paligax", *train, "--model_dir=one"], check=True)
    subprocess.run([sys.executable, LOCAL, "--num_processes=2", "--", *train, "--model_dir=two"], check=True)
    losses = [
        [
            row["loss"]
            for line in pathlib.Path(run, "metrics.jsonl").read_text().splitlines()
            if "loss" in (row := json.loads(line))
        ]
        for run in ("one", "two")
    ]
    assert len(losses[0]) == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
