"""launch/tpu_vm: the commands that it gives, with a stand-in for gcloud that remembers them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

TPU_VM = pathlib.Path(__file__).resolve().parents[2] / "launch" / "tpu_vm"
WORDS = [
    "--name=webli",
    "--project=p",
    "--zone=z",
    "--accelerator=v5p-256",
    "--runtime=v2-alpha-tpuv5",
    "--image=IMAGE",
]

# The queued resource's state is kept in a file; "ends" holds what each run of the job prints.
GCLOUD = """#!{python}
import json, pathlib, sys
here, words = pathlib.Path({here!r}), sys.argv[1:]
with (here / "log").open("a") as log:
    log.write(json.dumps(words) + "\\n")
state = here / "state"
if "describe" in words:
    if not state.exists(): sys.exit(1)
    print(state.read_text())
elif "create" in words:
    state.write_text("ACTIVE")
elif "delete" in words:
    state.unlink(missing_ok=True)
elif "ssh" in words:
    ends = json.loads((here / "ends").read_text())
    text, after = ends.pop(0)
    (here / "ends").write_text(json.dumps(ends))
    print(text)
    if after: state.write_text(after)
"""


@pytest.fixture
def launch(tmp_path):
    """launch(ends, words…) → (exit code, lists of words gcloud was given); ends: [output of the workers, new state]."""
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(GCLOUD.format(python=sys.executable, here=str(tmp_path)))
    gcloud.chmod(0o755)

    def run(ends, *words):
        (tmp_path / "ends").write_text(json.dumps(ends))
        impatient = (
            f"import runpy, sys, time; time.sleep = lambda s: None; sys.argv[0] = {str(TPU_VM)!r}; "
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        done = subprocess.run(
            [sys.executable, "-c", impatient, *WORDS, *words, "--", "train", "--gin_file=a b.gin"],
            env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        calls = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
        return done.returncode, [call[3] if call[2] != "tpu-vm" else "ssh" for call in calls], calls

    return run


def test_asks_waits_runs_and_deletes(launch):
    code, verbs, calls = launch([["paligax-exit-code=0\npaligax-exit-code=0", ""]], "--spot")
    assert code == 0 and verbs == ["describe", "create", "describe", "ssh", "delete"]
    assert {"--accelerator-type=v5p-256", "--runtime-version=v2-alpha-tpuv5", "--node-id=webli", "--spot"} <= set(
        calls[1]
    )
    ssh = calls[3]
    assert "--worker=all" in ssh and "--project=p" in ssh and "--zone=z" in ssh
    remote = next(word for word in ssh if word.startswith("--command="))
    assert "--env=PALIGAX_COORDINATOR=auto IMAGE train '--gin_file=a b.gin'; echo paligax-exit-code=$?" in remote


def test_taken_away_they_are_asked_for_anew(launch):
    ends = [["paligax-exit-code=137", "SUSPENDED"], ["paligax-exit-code=0", ""]]
    code, verbs, _ = launch(ends, "--keep")
    assert code == 0
    asked_and_run = ["create", "describe", "ssh"]
    assert verbs == ["describe", *asked_and_run, "describe", "delete", "describe", *asked_and_run]


def test_a_lost_process_starts_all_again_on_the_same_tpus(launch):
    code, verbs, _ = launch([["paligax-exit-code=76\npaligax-exit-code=137", ""], ["paligax-exit-code=0", ""]])
    assert code == 0 and verbs.count("ssh") == 2 and verbs.count("create") == 1


def test_an_error_with_a_message_ends_the_job(launch):
    code, verbs, _ = launch([["paligax-exit-code=76\npaligax-exit-code=1", ""]])
    assert code == 1 and verbs.count("ssh") == 1 and verbs[-1] == "delete"


def test_restarts_are_counted(launch):
    code, verbs, _ = launch([["paligax-exit-code=79", ""]] * 3, "--restarts=2")
    assert code == 79 and verbs.count("ssh") == 3


def test_several_slices(launch):
    code, verbs, calls = launch([["paligax-exit-code=0", ""]], "--slices=2")
    assert code == 0 and {"--node-count=2", "--node-prefix=webli"} <= set(calls[1])
    assert calls[3][2:4] == ["queued-resources", "ssh"] and "--node=all" in calls[3]
    assert "--gin.Partitioner.slices=2" in next(word for word in calls[3] if word.startswith("--command="))


def test_dry_run_prints_the_commands_and_needs_no_gcloud():
    command = [sys.executable, TPU_VM, *WORDS, "--dry_run", "--", "train"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(lines) == 4 and all(line.startswith("gcloud compute tpus ") for line in lines)
    assert lines[0].startswith("gcloud compute tpus queued-resources create webli --accelerator-type=v5p-256")
