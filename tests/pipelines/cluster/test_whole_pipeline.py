"""The whole DAG compiled for a cluster: every step has its resources, and it contains no secret and no local path."""

import getpass
import re
import socket
from pathlib import Path

import pytest
import yaml

from pipelines.cluster.compiling import compile_to
from pipelines.config.cluster import QUEUED
from pipelines.config.settings import load
from pipelines.steps import STEPS
from tests.pipelines.cluster.conftest import IMAGE

KUEUE = "kueue.x-k8s.io"


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("nightly") / "pipeline.yaml"
    compile_to(path, load("nightly", [f"cluster.image={IMAGE}", "cluster.service_account=wikigpt"]))
    return path.read_text()


@pytest.fixture(scope="module")
def placed(text) -> dict[str, tuple[dict, dict]]:
    """Container and Kubernetes settings by step."""
    pipeline, platform = yaml.load_all(text, yaml.CSafeLoader)
    on_kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {
        label.removeprefix("exec-"): (executor["container"], on_kubernetes[label])
        for label, executor in pipeline["deploymentSpec"]["executors"].items()
    }


def test_every_step_is_placed(placed):
    assert placed.keys() == set(STEPS)
    for step, (container, kubernetes) in placed.items():
        assert container["image"] == IMAGE
        assert {"resourceCpuLimit", "resourceMemoryLimit"} <= container["resources"].keys()
        assert kubernetes["securityContext"]["runAsNonRoot"] is True
        assert kubernetes["podMetadata"]["labels"]["app.kubernetes.io/component"] == step
        assert int(kubernetes["activeDeadlineSeconds"]) > 0
        verifies = {"wikigpt-signing"} if step in ("download", "register") else set()
        assert {entry["secretName"] for entry in kubernetes["secretAsEnv"]} == verifies | {
            "wikigpt-s3",
            "wikigpt-mlflow",
            "wikigpt-notify",
        }


def test_only_the_step_that_signs_has_the_private_key(placed):
    with_key = {step for step, (_, kubernetes) in placed.items() if "secretAsVolume" in kubernetes}
    assert with_key == {"register"}
    (volume,) = placed["register"][1]["secretAsVolume"]
    assert (volume["secretName"], volume["mountPath"]) == ("wikigpt-signing", "/etc/wikigpt/signing")
    for step, (container, kubernetes) in placed.items():
        keys = [key for entry in kubernetes["secretAsEnv"] for key in entry["keyToEnv"]]
        assert ("public.pem" in {key["secretKey"] for key in keys}) == (step in ("download", "register"))
        assert "key.pem" not in {key["secretKey"] for key in keys}
        named = {"name": "WIKIGPT_SIGNING_KEY", "value": "/etc/wikigpt/signing/key.pem"} in container["env"]
        assert named == (step in ("download", "register"))


def test_without_a_secret_for_it_no_key_is_mounted(tmp_path):
    compile_to(tmp_path / "p.yaml", load("nightly", [f"cluster.image={IMAGE}", "cluster.signing_secret=null"]))
    assert "signing" not in (tmp_path / "p.yaml").read_text().replace("register.signing", "")


def test_only_training_and_evaluation_ask_for_a_gpu(placed):
    with_gpu = {step for step, (container, _) in placed.items() if "accelerator" in container["resources"]}
    assert with_gpu == {"train", "evaluate"}


def test_only_training_has_shared_memory(placed):
    """Its processes exchange gradients by NCCL; batches are read without worker processes."""
    mounts = {
        step: kubernetes["emptyDirMounts"] for step, (_, kubernetes) in placed.items() if "emptyDirMounts" in kubernetes
    }
    shared = {"volumeName": "dshm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "1Gi"}
    assert mounts == {"train": [shared]}
    sources = [path.read_text() for path in (Path(__file__).parents[3] / "components").rglob("*.py")]
    assert not [text for text in sources if re.search(r"DataLoader\(|num_workers|multiprocessing|share_memory", text)]
    assert any('init_process_group("nccl"' in text for text in sources)


def test_only_training_and_evaluation_wait_in_the_queue(tmp_path):
    path = tmp_path / "pipeline.yaml"
    compile_to(path, load("nightly", [f"cluster.image={IMAGE}", "cluster.queue=gpus", "cluster.priority=scheduled"]))
    _, platform = yaml.load_all(path.read_text(), yaml.CSafeLoader)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    labels = {label.removeprefix("exec-"): pod["podMetadata"]["labels"] for label, pod in executors.items()}
    queued = {
        step: (own.get(f"{KUEUE}/queue-name"), own.get(f"{KUEUE}/priority-class")) for step, own in labels.items()
    }
    assert queued == {**dict.fromkeys(STEPS, (None, None)), **dict.fromkeys(QUEUED, ("gpus", "scheduled"))}
    assert set(QUEUED) == {"train", "evaluate"}


def test_every_task_is_retried_in_a_window_of_a_day_and_never_cached(text):
    pipeline = next(yaml.load_all(text, yaml.CSafeLoader))
    dags = [pipeline["root"], *(part for part in pipeline["components"].values() if "dag" in part)]
    tasks = {name: task for part in dags for name, task in part["dag"]["tasks"].items() if name in STEPS}
    assert tasks.keys() == set(STEPS)
    for task in tasks.values():
        assert task["retryPolicy"]["backoffMaxDuration"] == "86400s"
        assert not task["cachingOptions"].get("enableCache")


def test_nothing_of_the_machine_that_compiled_it(text):
    root = Path(__file__).parents[3]
    for trace in (str(root), str(Path.home()) + "/", socket.gethostname(), f"/{getpass.getuser()}/"):
        assert trace not in text


def test_no_credential(text):
    assert not re.search(r"AKIA|-----BEGIN|://[^/\s:]+:[^/\s@]+@", text)
    # These are names of keys; a value would follow `value:`, as for the variables that are not secret.
    pipeline = next(yaml.load_all(text, yaml.CSafeLoader))
    executors = pipeline["deploymentSpec"]["executors"].values()
    variables = {entry["name"] for executor in executors for entry in executor["container"].get("env", ())}
    assert variables == {"WIKIGPT_IMAGE", "WIKIGPT_RUN_DEADLINE_SECONDS", "WIKIGPT_SIGNING_KEY"}


def test_compiling_does_not_read_the_environment(text, tmp_path, monkeypatch):
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "WIKIGPT_STORE", "WIKIGPT_WEBHOOK"):
        monkeypatch.setenv(name, "s3://hunter2")
    path = tmp_path / "again.yaml"
    compile_to(path, load("nightly", [f"cluster.image={IMAGE}", "cluster.service_account=wikigpt"]))
    assert path.read_text() == text
