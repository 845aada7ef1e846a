"""Why a pod waits or ended, from its state in Kubernetes and from the messages of the workflow."""

import json
from pathlib import Path

import pytest

from pipelines.cluster.access import Access
from pipelines.cluster.pods import explain, list_pods, reason_of_node
from pipelines.cluster.runs import parse_run
from tests.kfp_stand_in.recorded import recorded
from tests.pipelines.cluster.test_runs import NOW, as_run


def container(name: str = "main", **state) -> dict:
    """The status of a container, as Kubernetes' published schema has it: `waiting={"reason": …}`."""
    return {"name": name, "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}


def pod(run: dict, **status) -> dict:
    """The recorded pod of a training for another run, in another state."""
    seen = recorded("k8s/train-pod")
    seen["metadata"]["labels"]["pipeline/runid"] = run["run_id"]
    return {**seen, "spec": {"containers": []}, "status": status or seen["status"]}


def explained(stand_in, access: Access, name: str, *pods: dict, nodes: dict | None = None):
    """The training of a recorded run with the reasons from its pods."""
    run = recorded(f"rest/run-{name}")
    stand_in.state.kubernetes.pods = [pod(run, **status) for status in pods]
    stand_in.state.kubernetes.start_workflow(run["run_id"], None)
    stand_in.state.kubernetes.workflows[run["run_id"]]["status"]["nodes"] = nodes or {}
    return explain(parse_run(as_run(run), NOW), list_pods(access, run["run_id"])).step("train")


def test_the_recorded_pod_that_no_node_takes(stand_in, kubeconfig):
    status = recorded("k8s/pod-unschedulable")["status"]
    train = explained(stand_in, kubeconfig, "pending-unschedulable", status)
    assert train.state == "pending"
    assert train.reason.startswith("no node can run it: 0/1 nodes are available: 1 Insufficient cpu")


def test_the_recorded_pod_that_runs(stand_in, kubeconfig):
    train = explained(stand_in, kubeconfig, "running", recorded("k8s/train-pod")["status"])
    assert (train.state, train.reason) == ("running", None)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            {"containerStatuses": [container(waiting={"reason": "ImagePullBackOff", "message": "not found"})]},
            "its image cannot be pulled: not found",
        ),
        (
            {
                "containerStatuses": [
                    container(waiting={"reason": "CreateContainerConfigError", "message": "secret s3 not found"})
                ]
            },
            "a Secret or a ConfigMap that it needs is missing: secret s3 not found",
        ),
        (
            {"initContainerStatuses": [container("init", waiting={"reason": "ErrImagePull"})]},
            "its image cannot be pulled",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "SchedulingGated",
                        "message": "Scheduling is blocked due to non-empty scheduling gates",
                    }
                ]
            },
            "it waits in its queue: Scheduling is blocked",
        ),
        ({}, "its container is being created"),
    ],
)
def test_why_a_pod_waits(stand_in, kubeconfig, status, words):
    train = explained(stand_in, kubeconfig, "running", {"phase": "Pending", **status})
    assert train.state == "pending"
    assert train.reason.startswith(words)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (  # the launcher survives and exits with 1, as the message of the workflow shows: OOMKilled (exit code 1)
            {"containerStatuses": [container(terminated={"exitCode": 1, "reason": "OOMKilled"})]},
            "killed because it reached its memory limit",
        ),
        (
            {
                "containerStatuses": [
                    container(terminated={"exitCode": 3}),
                    container("wait", terminated={"exitCode": 0}),
                ]
            },
            "container main ended with exit code 3",
        ),
        (
            {"containerStatuses": [container(terminated={"exitCode": 143, "reason": "Error"})]},
            "ended by a signal (exit code 143): its pod was deleted, or the run was cancelled",
        ),
        (
            {
                "reason": "DeadlineExceeded",
                "message": "Pod was active on the node longer than the specified deadline",
                "containerStatuses": [container(terminated={"exitCode": 143, "reason": "Error"})],
            },
            "stopped by its time-out: Pod was active on the node longer than the specified deadline",
        ),
        ({"reason": "Evicted", "message": "The node was low on memory."}, "evicted from its node: The node was low"),
    ],
)
def test_why_a_pod_ended(stand_in, kubeconfig, status, words):
    train = explained(stand_in, kubeconfig, "failed", {"phase": "Failed", **status})
    assert train.state == "failed"
    assert train.reason.startswith(words)


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("train-oom", "killed because it reached its memory limit"),
        ("train-deadline", "stopped by its time-out"),
        ("train-pod-deleted-exit-143", "ended by a signal (exit code 143): its pod was deleted, or the run"),
        ("train-pod-deleted-retried-succeeded", "its pod was deleted"),
        ("mlflow-plugin-invalid-pod", "Kubernetes refuses its pod: spec.containers[1].env[2].valueFrom: Invalid value"),
        ("failed", None),
        ("retry-default-limit-0-always-two-attempts", None),
    ],
)
def test_a_pod_that_is_gone_is_spoken_of_by_its_workflow(stand_in, kubeconfig, ending, words):
    recording = recorded("k8s/workflow-nodes-by-ending")[ending]
    root = f"{recording['workflow']}(0).root(0).exit-handler-1(0).condition-2(0).train(0)."
    nodes = {
        str(number): {**node, "name": root + node["displayName"]}
        for number, node in enumerate(recording["nodes"])
        if node["displayName"].startswith("executor(")
    }
    assert nodes
    train = explained(stand_in, kubeconfig, "failed", nodes=nodes)
    assert (train.reason or "").startswith(words or "") and bool(train.reason) == bool(words)


def test_every_recorded_word_of_a_workflow_about_a_pod_is_known(real_data: Path):
    """Messages with only an exit code, and those of a cancellation, add nothing to the state."""
    path = real_data / "kfp-recorded/k8s/workflow-nodes-by-ending.json"
    if not path.is_file():
        pytest.skip(f"no recording here: {path}")
    pods = [node for case in json.loads(path.read_text()).values() for node in case["nodes"] if node["type"] == "Pod"]
    silent = {node["message"] for node in pods if node["message"] and not reason_of_node(node["message"])}
    assert silent == {"main: Error (exit code 1)", "Step exceeded its deadline"}


@pytest.mark.parametrize("name", ["succeeded", "canceled"])
def test_a_step_that_did_not_fail_needs_no_reason(stand_in, kubeconfig, name):
    status = {"phase": "Failed", "containerStatuses": [container(terminated={"exitCode": 143})]}
    assert explained(stand_in, kubeconfig, name, status).reason is None


def test_without_a_kubeconfig_that_is_said(stand_in):
    run = recorded("rest/run-running")
    pods = list_pods(Access(endpoint=stand_in.url), run["run_id"])
    assert pods.note == "there is no kubeconfig, so the pods cannot be listed"
    status = parse_run(as_run(run), NOW)
    assert explain(status, pods) == status


def test_pods_that_kubernetes_does_not_show(stand_in, kubeconfig):
    stand_in.state.kubernetes.forbidden = {"pods"}
    note = list_pods(kubeconfig, "a-run").note
    assert note == "Kubernetes does not show the pods of kubeflow: 403 Forbidden, so the pods cannot be listed"


def test_a_driver_that_waits_is_named(stand_in, kubeconfig):
    run = recorded("rest/run-running")
    driver = pod(run, **recorded("k8s/pod-unschedulable")["status"])
    driver["metadata"]["name"] = "wikigpt-x7k2p-system-container-driver-7"
    del driver["metadata"]["labels"]["app.kubernetes.io/component"]
    stand_in.state.kubernetes.pods = [driver]
    note = list_pods(kubeconfig, run["run_id"]).note
    assert note.startswith(
        "the driver pod wikigpt-x7k2p-system-container-driver-7 waits: no node can run it: 0/1 nodes"
    )
