"""The log of a step is read from every place where it can be, and otherwise a sentence says why not."""

import boto3
import pytest

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.access import Access
from pipelines.cluster.inspection import inspect
from pipelines.cluster.logs import error_of, read_log, step_to_read
from pipelines.cluster.pods import list_pods
from pipelines.cluster.runs import get_run, parse_run
from tests.kfp_stand_in.recorded import recorded, recorded_log, with_identity
from tests.kfp_stand_in.server import Fault
from tests.pipelines.cluster.test_failures import LOSS

FAILED = recorded("rest/run-failed")["run_id"]
POD = "wikigpt-s256p-metadata-0-2-retry-system-container-impl-4195498885"


@pytest.fixture
def failed(cluster, stand_in):
    """The recorded run that failed in training, with the recorded version of the pipeline."""
    version = recorded("rest/pipeline-version")
    stand_in.state.versions[version["pipeline_version_id"]] = version
    run = recorded("rest/run-failed")
    reference = run["pipeline_version_reference"]
    stand_in.state.add_run("failed", run_id=FAILED, pipeline_version_reference=reference)
    return get_run(cluster, FAILED)


def read(cluster, run, access: Access | None = None, step: str | None = None) -> str:
    chosen = step_to_read(parse_run(run), step)
    return read_log(cluster, run, chosen, list_pods(access or cluster.access, run.run_id))


def test_the_log_of_a_pod_that_kubernetes_shows(cluster, stand_in, kubeconfig, failed):
    pod = with_identity(recorded("k8s/train-pod"), recorded("rest/run-running")["run_id"], FAILED)
    stand_in.state.kubernetes.pods = [{**pod, "spec": {"containers": []}}]
    stand_in.state.kubernetes.logs[pod["metadata"]["name"]] = "step 1 loss 9.1\n"
    assert read(cluster, failed, kubeconfig) == "step 1 loss 9.1\n"


def test_the_log_that_the_server_has_is_asked_for_by_the_name_of_the_pod(cluster, stand_in, failed):
    stand_in.state.kubernetes.logs[POD] = recorded_log("log-of-failed-train-pod")[1]
    text = read(cluster, failed)
    assert LOSS in text.splitlines()
    stand_in.state.kubernetes.logs = {POD: "von Grund auf: größer\n"}
    assert read(cluster, failed) == "von Grund auf: größer\n"


def test_the_newest_attempt_that_has_a_log_is_read(cluster, stand_in, failed):
    run = recorded("rest/run-canceling-for-ever")
    reference = failed.pipeline_version_reference.to_dict()
    stand_in.state.add_run("canceling-for-ever", run_id=run["run_id"], pipeline_version_reference=reference)
    seen = get_run(cluster, run["run_id"])
    nodes = parse_run(seen).step("train").nodes
    for node, text in ((nodes[0], "first\n"), (nodes[4], "fifth\n")):
        workflow, _, digits = node.rpartition("-")
        stand_in.state.kubernetes.logs[f"{workflow}-metadata-0-2-retry-system-container-impl-{digits}"] = text
    assert read(cluster, seen, step="train") == "fifth\n"


@pytest.mark.parametrize("name", ["log-of-deleted-pod", "log-of-missing-run"])
def test_the_recorded_errors_with_status_200_are_no_logs(name):
    assert error_of(recorded_log(name)[1]).startswith("BadRequestError: Failed to read logs for run")


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", '{"error_message": "x", "loss": 1}', '{"event": "note"}'])
def test_what_a_step_prints_is_no_error_of_the_server(text):
    assert error_of(text) is None
    assert error_of(recorded_log("log-of-failed-train-pod")[1]) is None


def test_an_error_is_never_printed_as_a_log(cluster, failed):
    with pytest.raises(Failure) as caught:
        read(cluster, failed)
    sentence = str(caught.value)
    assert sentence.startswith(
        "The log of step train cannot be read: there is no kubeconfig, so the pods cannot be listed, the server does"
        " not have it, and the copy in object storage cannot be read: no pipeline root is known"
    )
    assert f"the log is under PIPELINE_ROOT/wikigpt/{FAILED}/train/" in sentence
    assert "error_message" not in sentence and "\n" not in sentence


def test_a_run_whose_pipeline_was_deleted(cluster, stand_in, failed):
    stand_in.state.versions.clear()
    with pytest.raises(Failure, match="The log of step train cannot be read"):
        read(cluster, failed)


def test_a_page_for_logging_in_is_no_log(cluster, stand_in, failed):
    stand_in.cookie = "another"
    with pytest.raises(Failure) as caught:
        read(cluster, failed)
    assert caught.value.exit_code is ExitCode.UNAUTHORISED


@pytest.fixture
def bucket(s3_emulator, monkeypatch):
    """A pipeline root on object storage that the environment reaches."""
    root, environment = s3_emulator
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = boto3.Session(region_name=environment["AWS_REGION"]).client("s3")
    name, _, prefix = root.removeprefix("s3://").partition("/")

    def put(key: str, text: str) -> None:
        client.put_object(Bucket=name, Key=f"{prefix}/{key}", Body=text.encode())

    return root, put


def test_the_copy_that_the_launcher_left(cluster, stand_in, failed, bucket, monkeypatch):
    root, put = bucket
    # The recorded launcher uploaded `train/cb5186c3-…/executor-logs-0` below the pipeline and the run.
    task = "cb5186c3-211e-425b-a2fc-4cee1eceb073"
    recorded_upload = recorded_log("log-of-failed-train-pod")[1]
    assert f"/s3/wikigpt/pipelines/wikigpt/{FAILED}/train/{task}/executor-logs-0" in recorded_upload
    put(f"wikigpt/{FAILED}/train/{task}/executor-logs-0", "of the step\n")
    put(f"wikigpt/{FAILED}/train/{task}/model/manifest.json", "{}")
    put(f"wikigpt/{FAILED}/tokenize/{task}/executor-logs-0", "of another\n")
    monkeypatch.setenv("KF_PIPELINES_ROOT", f"{root}/")
    assert read(cluster, failed) == "of the step\n"


def test_the_launcher_s_config_map_tells_the_root(cluster, stand_in, failed, bucket, kubeconfig):
    root, put = bucket
    put(f"wikigpt/{FAILED}/train/a-task/executor-logs-1", "second attempt\n")
    stand_in.state.kubernetes.config_maps["kubeflow", "kfp-launcher"] = {"defaultPipelineRoot": root}
    assert read(cluster, failed, kubeconfig) == "second attempt\n"


def test_the_run_s_own_root_comes_first(cluster, stand_in, failed, bucket, monkeypatch):
    root, put = bucket
    put(f"wikigpt/{FAILED}/train/a-task/executor-logs-0", "there\n")
    monkeypatch.setenv("KF_PIPELINES_ROOT", "s3://elsewhere/pipelines")
    stand_in.state.runs[FAILED]["runtime_config"] = {"parameters": {}, "pipeline_root": root}
    assert read(cluster, get_run(cluster, FAILED)) == "there\n"


def test_a_step_without_a_copy(cluster, failed, bucket, monkeypatch):
    root, _ = bucket
    monkeypatch.setenv("KF_PIPELINES_ROOT", root)
    with pytest.raises(Failure) as caught:
        read(cluster, failed)
    assert "the launcher wrote no copy to object storage, as for a step that was killed" in str(caught.value)
    assert f"under {root}/wikigpt/{FAILED}/train/" in str(caught.value)


@pytest.mark.parametrize("root", ["gs://bucket/pipelines", "s3://wikigpt-test-no-such-bucket/pipelines"])
def test_a_root_that_cannot_be_read(cluster, failed, bucket, monkeypatch, root):
    monkeypatch.setenv("KF_PIPELINES_ROOT", root)
    with pytest.raises(Failure, match="the copy in object storage cannot be read") as caught:
        read(cluster, failed)
    assert f"{root}/wikigpt/{FAILED}/train/" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sentence", "code"),
    [
        ("trian", "There is no step 'trian' .*the steps are download, validate", ExitCode.USAGE),
        ("register", "Step register has no log: it did not start", ExitCode.FAILED),
    ],
)
def test_a_log_that_never_was(failed, name, sentence, code):
    with pytest.raises(Failure, match=sentence) as caught:
        step_to_read(parse_run(failed), name)
    assert caught.value.exit_code is code


def test_which_log_is_meant(failed):
    assert step_to_read(parse_run(failed), None).name == "train"


def test_the_reason_of_a_failure_without_a_kubeconfig_is_what_the_step_recorded(cluster, stand_in, failed):
    stand_in.state.kubernetes.logs[POD] = recorded_log("log-of-failed-train-pod")[1]
    status, note = inspect(cluster, FAILED)
    assert status.step("train").reason == LOSS
    assert note == "there is no kubeconfig, so the pods cannot be listed"


def test_the_failure_that_a_step_recorded_outweighs_an_exit_code_but_not_what_kubernetes_knows(
    stand_in, kubeconfig, failed
):
    from pipelines.cluster.connection import connect

    seen = connect(kubeconfig)
    pod = with_identity(recorded("k8s/train-pod"), recorded("rest/run-running")["run_id"], FAILED)
    name, kubernetes = pod["metadata"]["name"], stand_in.state.kubernetes
    kubernetes.logs[name] = recorded_log("log-of-failed-train-pod")[1]
    status = pod["status"]["containerStatuses"]
    main = next(entry for entry in status if entry["name"] == "main")
    for ended, reason in (
        ({"exitCode": 1, "reason": "Error"}, LOSS),
        ({"exitCode": 1, "reason": "OOMKilled"}, "killed because it reached its memory limit"),
    ):
        main["state"] = {"terminated": ended}
        kubernetes.pods = [{**pod, "spec": {"containers": []}}]
        assert inspect(seen, FAILED)[0].step("train").reason == reason


def test_a_log_that_cannot_be_read_leaves_the_status_as_it_is(cluster, stand_in, failed):
    stand_in.faults.append(Fault("error", "GetPipelineVersion", times=9))
    assert inspect(cluster, FAILED)[0].step("train").reason is None
