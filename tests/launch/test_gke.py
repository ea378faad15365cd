"""launch/gke: the JobSet that it renders, checked against the schema and read as Kubernetes would."""

import copy
import importlib.machinery
import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest
import yaml

GKE = pathlib.Path(__file__).resolve().parents[2] / "launch" / "gke"
TPU = ["--image=IMAGE", "--queue=tpus", "--tpu=v5p:8x8x8"]


def render(*words):
    command = [sys.executable, GKE, "--dry_run", "--name=webli", *words, "--", "train", "--gin_file=a b.gin"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def parts(manifest):
    """(job spec, pod spec, container, its plain variables)."""
    (workers,) = manifest["spec"]["replicatedJobs"]
    spec = workers["template"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    return spec, pod, container, {e["name"]: e.get("value") for e in container["env"]}


@pytest.fixture(scope="module")
def gke():
    sys.path.insert(0, str(GKE.parent))
    loader = importlib.machinery.SourceFileLoader("launch_gke", str(GKE))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("launch_gke", loader))
    loader.exec_module(module)
    sys.path.remove(str(GKE.parent))
    return module


def test_tpu_slices():
    manifest = render(*TPU, "--slices=2", "--spot", "--mount=bucket:/data", "--service_account=trainer", "--env=A=b")
    assert manifest["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "tpus"}
    assert manifest["spec"]["replicatedJobs"][0]["replicas"] == 2
    spec, pod, container, variables = parts(manifest)
    assert spec["parallelism"] == spec["completions"] == 512 // 4 and spec["backoffLimit"] == 0
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
        "cloud.google.com/gke-tpu-topology": "8x8x8",
        "cloud.google.com/gke-spot": "true",
    }
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert variables == {"PALIGAX_COORDINATOR": "auto", "A": "b"}
    assert container["args"] == ["train", "--gin_file=a b.gin", "--gin.Partitioner.slices=2"]
    assert pod["volumes"][1]["persistentVolumeClaim"]["claimName"] == "bucket"
    assert container["volumeMounts"][1]["mountPath"] == "/data" and pod["serviceAccountName"] == "trainer"


def test_gpu_nodes_find_the_first_of_them():
    spec, pod, container, variables = parts(render("--image=IMAGE", "--gpu=nvidia-h100-80gb:8", "--nodes=4"))
    assert spec["completions"] == 4 and spec["completionMode"] == "Indexed"
    assert variables["PALIGAX_COORDINATOR"] == "webli-workers-0-0.webli:8476"
    assert variables["PALIGAX_NUM_PROCESSES"] == "4"
    index = next(e for e in container["env"] if e["name"] == "PALIGAX_PROCESS_ID")["valueFrom"]["fieldRef"]["fieldPath"]
    assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8} and "annotations" not in pod


def test_all_pods_start_again_but_for_errors_with_a_message():
    manifest = render(*TPU, "--restarts=7")
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 7
    (rule,) = manifest["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "FailJobSet" and rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    spec, pod, _, _ = parts(manifest)
    (codes,) = spec["podFailurePolicy"]["rules"]
    assert codes["action"] == "FailJob" and codes["onExitCodes"]["values"] == [1, 2]
    assert pod["restartPolicy"] == "Never", "a podFailurePolicy asks for it"
    assert pod["terminationGracePeriodSeconds"] == 300


@pytest.mark.parametrize(
    "tpu, hosts, chips", [("v4:8x8x16", 256, 4), ("v5e:16x16", 64, 4), ("v6e:2x2", 1, 4), ("v5e:1x1", 1, 1)]
)
def test_hosts_follow_from_the_topology(tpu, hosts, chips):
    spec, _, container, variables = parts(render("--image=I", f"--tpu={tpu}"))
    assert (spec["parallelism"], container["resources"]["limits"]["google.com/tpu"]) == (hosts, chips)
    assert variables == ({"PALIGAX_COORDINATOR": "auto"} if hosts > 1 else {})


@pytest.mark.parametrize(
    "words, said",
    [
        (["--tpu=v9:2x2"], "none of v4, v5p"),
        (["--tpu=v5e:4x4x4"], "has 2 numbers, like 4x4"),
        (["--tpu=v6e:3x3"], "no multiple of the 4"),
        (["--gpu=h100"], "expected KIND:NUMBER"),
        (["--gpu=h100:8", "--slices=2"], "GPUs have --nodes"),
        (["--tpu=v6e:4x4", "--nodes=2"], "follows from its topology"),
        (["--gpu=h100:8", "--mount=/x"], "CLAIM:/PATH"),
        ([], "one of the arguments --tpu --gpu is required"),
    ],
)
def test_mistakes(words, said):
    command = [sys.executable, GKE, "--name=x", "--image=I", *words, "--", "train"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr


def test_the_schema_finds_what_is_wrong(gke):
    schema = json.loads(gke.SCHEMA.read_text())
    good = render(*TPU)
    assert gke.mistakes_of(good, schema) == []

    def broken(change):
        manifest = copy.deepcopy(good)
        change(manifest)
        return "\n".join(gke.mistakes_of(manifest, schema))

    assert "spec.failurePolicy.maxRestart is not known" in broken(
        lambda m: m["spec"].update(failurePolicy={"maxRestart": 3})
    )
    assert ".spec.replicatedJobs[0].template is missing" in broken(
        lambda m: m["spec"]["replicatedJobs"][0].pop("template")
    )
    assert "not of type integer" in broken(lambda m: m["spec"]["failurePolicy"].update(maxRestarts="3"))
    assert "none of FailJobSet" in broken(lambda m: m["spec"]["failurePolicy"]["rules"][0].update(action="Fail"))
    assert ".metadata.name is missing" in broken(lambda m: m["metadata"].pop("name"))
    assert "not of the form" in broken(lambda m: parts(m)[2]["resources"]["limits"].update(memory="8 pounds"))
    assert "less than 0" in broken(lambda m: m["spec"]["replicatedJobs"][0].update(replicas=-1))
