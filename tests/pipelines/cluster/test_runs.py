"""What a run's nodes, pods and logs say, in the words of our steps."""

import pytest

from components.shared.failure import ExitCode, Failure
from pipelines.cluster.access import Access
from pipelines.cluster.connection import connect
from pipelines.cluster.logs import read_log, step_to_read
from pipelines.cluster.pods import explain, look_at_pods
from pipelines.cluster.runs import fetch
from pipelines.cluster.submission import Package, submit
from pipelines.cluster.watching import require_success
from tests.pipelines.cluster.argo import RUN, container, node, pod, run


@pytest.fixture
def kubernetes(stand_in, tmp_path):
    """A kubeconfig that leads to the stand-in."""
    config = tmp_path / ".kube" / "config"
    config.parent.mkdir()
    config.write_text(
        f"""
apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
clusters: [{{name: here, cluster: {{server: {stand_in.url}}}}}]
users: [{{name: me, user: {{token: mine}}}}]
"""
    )
    return Access(endpoint=stand_in.url)


def shown(stand_in, message):
    stand_in.state.runs[RUN] = message
    return fetch(connect(Access(endpoint=stand_in.url)), RUN)


def test_steps_durations_and_states(stand_in):
    status = shown(
        stand_in,
        run(
            "FAILED",
            [
                node("download", "SUCCEEDED", "02:00:10", "02:00:40"),
                node("validate", "SUCCEEDED", "02:00:40", "02:01:00"),
                node("tokenize", "SUCCEEDED", "02:01:00", "02:02:00"),
                node("train", "FAILED", "02:02:00", "02:09:00"),
                node("notify", "SUCCEEDED", "02:09:00", "02:10:00"),
            ],
        ),
    )
    assert (status.state, status.seconds, status.over) == ("FAILED", 600.0, True)
    assert [(step.name, step.state, step.seconds) for step in status.steps] == [
        ("download", "succeeded", 30.0),
        ("validate", "succeeded", 20.0),
        ("tokenize", "succeeded", 60.0),
        ("train", "failed", 420.0),
        ("evaluate", "not started", None),
        ("register", "not started", None),
        ("notify", "succeeded", 60.0),
    ]
    with pytest.raises(Failure, match=f"The run failed in train .*`wikigpt logs {RUN} train`"):
        require_success(status)


def test_a_night_without_news_skips_the_rest(stand_in):
    nodes = [node("download", "SUCCEEDED", "02:00:10", "02:00:40"), node("notify", "SUCCEEDED", "02:00:40", "02:01:00")]
    status = shown(stand_in, run("SUCCEEDED", nodes))
    assert {step.name for step in status.steps if step.state == "skipped"} == {
        "validate",
        "tokenize",
        "train",
        "evaluate",
        "register",
    }


def test_a_step_whose_driver_runs_is_pending(stand_in):
    message = run("RUNNING", [])
    message["run_details"]["task_details"].append(node("download-driver", "RUNNING"))
    assert shown(stand_in, message).step("download").state == "pending"


def test_a_node_is_known_by_the_title_of_its_task(cluster, stand_in, ir):
    submitted = submit(cluster, Package(ir.read_bytes().replace(b"work-2", b"train"), "{}", None, "nightly"))
    details = {"task_details": [node("Train the model", "RUNNING")]}
    stand_in.state.runs[submitted.run_id]["run_details"] = details
    assert fetch(cluster, submitted.run_id).step("train").state == "running"


def test_a_run_whose_pipeline_was_deleted(cluster, stand_in, ir):
    submitted = submit(cluster, Package(ir.read_bytes(), "{}", None, "nightly"))
    stand_in.state.versions.clear()
    assert fetch(cluster, submitted.run_id).run_id == submitted.run_id


def test_a_run_that_failed_while_it_was_cancelled_was_cancelled(stand_in):
    history = [{"update_time": "2026-11-22T02:00:00Z", "state": state} for state in ("RUNNING", "CANCELING", "FAILED")]
    status = shown(stand_in, run("FAILED", [], state_history=history))
    with pytest.raises(Failure) as caught:
        require_success(status)
    assert caught.value.exit_code is ExitCode.CANCELLED


THIRD = {"exitCode": 3, "reason": "Error"}
UNSCHEDULABLE = {
    "conditions": [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
        }
    ]
}


@pytest.mark.parametrize(
    ("phase", "status", "words"),
    [
        ("Pending", UNSCHEDULABLE, "no node takes it: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu"),
        (
            "Pending",
            {"containerStatuses": [container(waiting={"reason": "ImagePullBackOff", "message": "not found"})]},
            "its image cannot be pulled: not found",
        ),
        (
            "Pending",
            {
                "containerStatuses": [
                    container(waiting={"reason": "CreateContainerConfigError", "message": "secret s3 not found"})
                ]
            },
            "a Secret or a ConfigMap that it needs is missing: secret s3 not found",
        ),
        (
            "Pending",
            {"initContainerStatuses": [container("init", waiting={"reason": "ErrImagePull"})]},
            "its image cannot be pulled",
        ),
        ("Pending", {}, "its container is being made"),
        (
            "Failed",
            {"containerStatuses": [container(terminated={"exitCode": 137, "reason": "OOMKilled"})]},
            "killed for its memory: it reached the limit",
        ),
        (
            "Failed",
            {
                "containerStatuses": [
                    container("wait", terminated={"exitCode": 0}),
                    container(terminated={"exitCode": 3}),
                ]
            },
            "container main ended with exit code 3",
        ),
        ("Failed", {"reason": "DeadlineExceeded"}, "ended by its time-out"),
        (
            "Failed",
            {"reason": "Evicted", "message": "The node was low on memory."},
            "evicted from its node: The node was",
        ),
        ("Running", {"containerStatuses": [container(running={})]}, None),
    ],
)
def test_the_reason_of_a_pod_in_words(stand_in, kubernetes, phase, status, words):
    stand_in.state.pods = [pod("train", phase, **status)]
    seen = shown(stand_in, run("RUNNING", [node("train", "RUNNING")]))
    train = explain(seen, look_at_pods(kubernetes, RUN)).step("train")
    assert (train.reason or "").startswith(words or "") and bool(train.reason) == bool(words)
    assert train.state == ("pending" if phase == "Pending" else "running")


def test_without_kubernetes_the_status_says_so(stand_in):
    pods = look_at_pods(Access(endpoint=stand_in.url), RUN)
    assert pods.note == "no kubeconfig is here, so the pods cannot be seen"
    status = shown(stand_in, run("RUNNING", [node("train", "RUNNING")]))
    assert explain(status, pods) == status


def test_a_driver_that_waits_is_named(stand_in, kubernetes):
    driver = pod("", "Pending", name="wikigpt-x7k2p-system-container-driver-7", **UNSCHEDULABLE)
    del driver["metadata"]["labels"]["app.kubernetes.io/component"]
    stand_in.state.pods = [driver]
    note = look_at_pods(kubernetes, RUN).note
    assert note.startswith("the driver pod wikigpt-x7k2p-system-container-driver-7 waits: no node takes it: 0/3 nodes")


def failed_in_training(stand_in):
    nodes = [node("download", "SUCCEEDED", end="02:00:40"), node("train", "FAILED", children=("wikigpt-x7k2p-42",))]
    return shown(stand_in, run("FAILED", nodes))


def test_the_log_of_a_pod(cluster, stand_in, kubernetes):
    status = failed_in_training(stand_in)
    stand_in.state.pods = [pod("train", "Failed", name="pod-of-train")]
    stand_in.state.logs = {"pod-of-train": "step 1 loss 9.1\n"}
    step = step_to_read(status, None)
    assert step.name == "train"
    assert read_log(cluster, status, step, look_at_pods(kubernetes, RUN)) == "step 1 loss 9.1\n"


def test_the_log_that_the_server_has(cluster, stand_in):
    status = failed_in_training(stand_in)
    stand_in.state.logs = {"wikigpt-x7k2p-system-container-impl-42": "von Grund auf: größer\n"}
    pods = look_at_pods(Access(endpoint=stand_in.url), RUN)
    assert read_log(cluster, status, status.step("train"), pods) == "von Grund auf: größer\n"


def test_a_log_that_is_gone_is_said_to_be_gone(cluster, stand_in, kubernetes):
    status = failed_in_training(stand_in)
    with pytest.raises(Failure, match=r"The log of step train is gone with its pod .* record in MLflow"):
        read_log(cluster, status, status.step("train"), look_at_pods(kubernetes, RUN))


def test_a_log_that_may_be_with_a_pod_that_cannot_be_seen(cluster, stand_in):
    status = failed_in_training(stand_in)
    with pytest.raises(Failure, match="The server does not have the log of step train, and no kubeconfig is here"):
        read_log(cluster, status, status.step("train"), look_at_pods(Access(endpoint=stand_in.url), RUN))


@pytest.mark.parametrize(
    ("name", "sentence", "code"),
    [
        ("trian", "There is no step 'trian' .*the steps are download, validate", ExitCode.USAGE),
        ("register", "Step register has printed nothing: it did not start", ExitCode.FAILED),
    ],
)
def test_a_log_that_never_was(stand_in, name, sentence, code):
    status = failed_in_training(stand_in)
    with pytest.raises(Failure, match=sentence) as caught:
        step_to_read(status, name)
    assert caught.value.exit_code is code
