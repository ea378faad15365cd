"""launch/slurm: the script that it submits, run by bash with stand-ins for Slurm's commands."""

import os
import pathlib
import stat
import subprocess
import sys

import pytest

SLURM = pathlib.Path(__file__).resolve().parents[2] / "launch" / "slurm"

# Two tasks, as srun starts them; the exit code is the highest of theirs.
SRUN = """#!/bin/bash
echo "srun $1" >> "$LOG"
shift $(for a in "$@"; do case $a in --*) echo x;; *) break;; esac; done | wc -l)
code=0
for i in 0 1; do
  SLURM_PROCID=$i SLURM_LOCALID=$i "$@"; c=$?
  [ $c -gt $code ] && code=$c
done
exit $code
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >> "$LOG"
[ "$1 $2" = "show hostnames" ] && printf 'node7\\nnode8\\n'
exit 0
"""
PALIGAX = """#!/bin/bash
who="$PALIGAX_COORDINATOR $PALIGAX_PROCESS_ID/$PALIGAX_NUM_PROCESSES ${PALIGAX_LOCAL_DEVICE_IDS:-}"
echo "paligax $* | $who" >> "$LOG"
[ "$PALIGAX_PROCESS_ID" = 1 ] && exit $CODE
[ $CODE = 0 ] && exit 0
exit 76
"""


@pytest.fixture
def submit(tmp_path):
    """submit(code, words…, restarts_so_far) → (exit code, lines of what was called): process 1 ends with that code."""
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "paligax": PALIGAX}.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(code, *words, before=0):
        script = tmp_path / "bin" / "sbatch"
        variables = f"SLURM_JOB_ID=77 SLURM_NTASKS=2 SLURM_JOB_NODELIST=node[7-8] SLURM_RESTART_COUNT={before}"
        script.write_text(f'#!/bin/bash\ncat > job.sh\n{variables} SLURM_SUBMIT_DIR="$PWD" bash job.sh\n')
        script.chmod(0o755)
        log = tmp_path / "log"
        log.unlink(missing_ok=True)
        done = subprocess.run(
            [
                sys.executable,
                SLURM,
                "--name=x",
                "--nodes=2",
                "--time=1:00:00",
                *words,
                "--",
                "train",
                "--model_dir=a b",
            ],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "LOG": str(log), "CODE": str(code)},
            capture_output=True,
            text=True,
        )
        return done.returncode, log.read_text().splitlines()

    return run


def test_every_task_learns_who_it_is(submit):
    code, lines = submit(0)
    assert code == 0
    assert [line for line in lines if line.startswith("paligax")] == [
        "paligax train --model_dir=a b | node7:20077 0/2 ",
        "paligax train --model_dir=a b | node7:20077 1/2 ",
    ]
    assert not any("requeue" in line for line in lines)


@pytest.mark.parametrize("ended", [75, 76, 79, 137, 143])
def test_what_can_go_on_is_put_back_into_the_queue(submit, ended):
    code, lines = submit(ended)
    assert code == 0 and lines[-1] == "scontrol requeue 77"


@pytest.mark.parametrize("ended", [1, 2])
def test_an_error_with_a_message_is_final_though_others_were_lost_by_it(submit, ended):
    code, lines = submit(ended)
    assert code == 76 and not any("requeue" in line for line in lines)


def test_restarts_are_counted(submit):
    assert submit(75, "--restarts=3", before=2)[1][-1] == "scontrol requeue 77"
    code, lines = submit(75, "--restarts=3", before=3)
    assert code == 76 and not any("requeue" in line for line in lines)


def test_several_processes_on_a_node_share_its_gpus(submit):
    _, lines = submit(0, "--gpus_per_node=8", "--processes_per_node=2")
    assert [line.split()[-1] for line in lines if line.startswith("paligax")] == ["0,1,2,3", "4,5,6,7"]


def dry_run(*words):
    command = [sys.executable, SLURM, "--dry_run", "--name=x", "--time=1:00:00", *words, "--", "train"]
    return subprocess.run(command, capture_output=True, text=True)


def test_dry_run_prints_the_script_and_needs_no_slurm():
    done = dry_run(
        "--nodes=4", "--gpus_per_node=8", "--env=A=b c", "--image=/i.sqsh", "--partition=p", "--sbatch=--qos=q"
    )
    for line in ("#SBATCH --nodes=4", "#SBATCH --gpus-per-node=8", "#SBATCH --requeue", "#SBATCH --signal=TERM@120"):
        assert line in done.stdout.splitlines()
    assert "#SBATCH --partition=p\n#SBATCH" in done.stdout and "#SBATCH --qos=q\n" in done.stdout
    assert "export A='b c'\n" in done.stdout and "--container-image=/i.sqsh bash" in done.stdout
    assert (
        subprocess.run(["bash", "-n"], input=done.stdout.split("\n", 1)[1].rsplit("EOF", 1)[0], text=True).returncode
        == 0
    )


@pytest.mark.parametrize(
    "words, said",
    [
        (["--nodes=0"], "--nodes must be at least 1, got 0"),
        (["--nodes=1", "--gpus_per_node=8", "--processes_per_node=3"], "must divide"),
        (["--nodes=1", "--env=x y"], "expected NAME=VALUE"),
        (["--nodes=1", "--name=Big_Name"], "lower-case"),
    ],
)
def test_mistakes(words, said):
    done = dry_run(*words)
    assert done.returncode == 2 and said in done.stderr
