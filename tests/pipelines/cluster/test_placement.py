"""The settings that compiling for a cluster puts on a task, read from the compiled pipeline."""

import pytest

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.placement import placement
from pipelines.config.cluster import ClusterSettings, Toleration
from pipelines.config.resources import TrainResources
from tests.pipelines.cluster.conftest import IMAGE


def train_of(documents):
    """Container, task and Kubernetes settings of the training step."""
    pipeline, platform = documents
    task = pipeline["components"]["comp-exit-handler-1"]["dag"]["tasks"]["work-2"]
    label = pipeline["components"][task["componentRef"]["name"]]["executorLabel"]
    container = pipeline["deploymentSpec"]["executors"][label]["container"]
    return container, task, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]


def notice_of(documents):
    pipeline, platform = documents
    label = pipeline["components"]["comp-work"]["executorLabel"]
    container = pipeline["deploymentSpec"]["executors"][label]["container"]
    return container, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]


def test_image_and_resources(compiled):
    container, _, _ = train_of(compiled())
    assert container["image"] == IMAGE
    assert {"name": "WIKIGPT_IMAGE", "value": IMAGE} in container["env"]
    assert container["resources"] == {
        "resourceCpuRequest": "4",
        "cpuRequest": 4.0,
        "resourceCpuLimit": "8",
        "cpuLimit": 8.0,
        "resourceMemoryRequest": "12Gi",
        "memoryRequest": 12.884901888,
        "resourceMemoryLimit": "24Gi",
        "memoryLimit": 25.769803776,
        "accelerator": {"type": "nvidia.com/gpu", "count": "1", "resourceType": "nvidia.com/gpu", "resourceCount": "1"},
    }


def test_shared_memory_is_a_volume_in_memory(compiled):
    _, _, kubernetes = train_of(compiled(train=TrainResources(shared_memory="6Gi")))
    assert kubernetes["emptyDirMounts"] == [
        {"volumeName": "dshm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "6Gi"}
    ]


def test_a_step_with_a_gpu_runs_in_the_gpu_pool_and_others_do_not(compiled):
    documents = compiled(
        gpu_node_selector={"pool": "a100"},
        gpu_tolerations=(Toleration(key="gpu", operator="Equal", value="yes", effect="NoExecute"),),
    )
    _, _, kubernetes = train_of(documents)
    assert kubernetes["nodeSelector"] == {"labels": {"pool": "a100"}}
    assert kubernetes["tolerations"] == [{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute"}]
    container, notice = notice_of(documents)
    assert "accelerator" not in container["resources"]
    assert not {"nodeSelector", "tolerations", "emptyDirMounts"} & notice.keys()


def test_without_a_gpu_training_runs_anywhere(compiled):
    container, _, kubernetes = train_of(compiled(train=TrainResources(gpus=0), gpu_node_selector={"pool": "a100"}))
    assert "accelerator" not in container["resources"]
    assert not {"nodeSelector", "tolerations"} & kubernetes.keys()


def test_credentials_come_from_secrets_and_addresses_from_the_config_map(compiled):
    _, _, kubernetes = train_of(compiled(mlflow_secret=None, s3_secret="team-s3"))
    secrets = {entry["secretName"]: entry for entry in kubernetes["secretAsEnv"]}
    assert secrets.keys() == {"team-s3", "wikigpt-notify"}
    assert [(key["secretKey"], key["envVar"]) for key in secrets["team-s3"]["keyToEnv"]] == [
        ("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"),
    ]
    needed, optional = kubernetes["configMapAsEnv"]
    assert needed["configMapName"] == optional["configMapName"] == "wikigpt"
    assert {key["envVar"] for key in needed["keyToEnv"]} == {"WIKIGPT_STORE", "WIKIGPT_MLFLOW_TRACKING_URI"}
    assert {key["envVar"] for key in optional["keyToEnv"]} == {
        "AWS_ENDPOINT_URL_S3",
        "AWS_REGION",
        "WIKIGPT_S3_PATH_STYLE",
    }
    assert needed["optional"] is False
    assert optional["optional"] is True


def test_no_container_runs_as_root(compiled):
    documents = compiled(run_as_user=10001, run_as_group=0)
    _, _, kubernetes = train_of(documents)
    expected = {"runAsUser": "10001", "runAsGroup": "0", "runAsNonRoot": True}
    assert kubernetes["securityContext"] == notice_of(documents)[1]["securityContext"] == expected


def test_time_out_labels_and_pull_secrets(compiled):
    _, _, kubernetes = train_of(compiled(image_pull_secrets=("registry",), train=TrainResources(timeout_seconds=7200)))
    assert kubernetes["activeDeadlineSeconds"] == "7200"
    assert kubernetes["podMetadata"]["labels"] == {
        "app.kubernetes.io/name": "wikigpt",
        "app.kubernetes.io/component": "train",
    }
    assert [entry["secretName"] for entry in kubernetes["imagePullSecret"]] == ["registry"]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ({"queue": "gpus"}, {"kueue.x-k8s.io/queue-name": "gpus"}),
        (
            {"queue": "gpus", "priority": "scheduled"},
            {"kueue.x-k8s.io/queue-name": "gpus", "kueue.x-k8s.io/priority-class": "scheduled"},
        ),
    ],
)
def test_the_queue_and_its_order_are_labels_of_the_pods_that_need_a_gpu(compiled, values, labels):
    documents = compiled(**values)
    own = {"app.kubernetes.io/name": "wikigpt"}
    train = train_of(documents)[2]["podMetadata"]["labels"]
    assert train == {**own, "app.kubernetes.io/component": "train", **labels}
    assert notice_of(documents)[1]["podMetadata"]["labels"] == {**own, "app.kubernetes.io/component": "notify"}


def test_kfp_kubernetes_has_no_field_for_a_priority_class():
    """When kfp-kubernetes gets one, `cluster.priority` can set the priority of the pod itself."""
    from kfp.kubernetes import kubernetes_executor_config_pb2 as platform

    fields = platform.DESCRIPTOR.message_types_by_name["KubernetesExecutorConfig"].fields_by_name
    assert not [name for name in fields if "priority" in name]


def test_kfp_has_no_field_for_the_policy_of_a_retry():
    """So the defaults of the server's administrator decide which failures are retried."""
    from kfp.pipeline_spec import pipeline_spec_pb2 as pipeline

    task = pipeline.DESCRIPTOR.message_types_by_name["PipelineTaskSpec"]
    fields = task.nested_types_by_name["RetryPolicy"].fields_by_name
    assert set(fields) == {"max_retry_count", "backoff_duration", "backoff_factor", "backoff_max_duration"}


def test_retries_have_a_window_of_a_day(compiled):
    _, task, _ = train_of(compiled())
    assert task["retryPolicy"] == {
        "maxRetryCount": 3,
        "backoffDuration": "30s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "86400s",
    }


def test_deadline_and_time_to_live_of_the_run(compiled):
    _, platform = compiled(run_deadline_seconds=50_000, keep_success_seconds=60, keep_failure_seconds=600)
    assert platform["platforms"]["kubernetes"]["pipelineConfig"] == {
        "activeDeadlineSeconds": 50_000,
        "resourceTtlOnSuccess": 60,
        "resourceTtlOnFailure": 600,
    }


@pytest.mark.parametrize(
    ("image", "sentence"),
    [("registry.example/wikigpt:latest", "named by a tag, which may name other bytes"), ("", "No image is named")],
)
def test_an_image_without_a_digest_is_refused(image, sentence):
    with pytest.raises(Failure, match=sentence) as caught:
        placement(ClusterSettings(image=image))
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_mutable_image_can_be_insisted_on(compiled):
    container, _, _ = train_of(compiled(image="registry.example/wikigpt:dev", allow_mutable_image=True))
    assert container["image"] == "registry.example/wikigpt:dev"
