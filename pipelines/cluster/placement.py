"""Applies the settings of the cluster to the tasks of the DAG, by kfp and kfp-kubernetes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from kfp import dsl, kubernetes

from components.shared.base.failure import ExitCode, Failure
from components.shared.runtime.liveness import DEADLINE_VARIABLE
from components.shared.signing.keys import MOUNTED_KEY, PUBLIC_KEY, SIGNING_KEY
from components.shared.tracking.run import OWN_VARIABLES
from pipelines.config.cluster import OPTIONAL_KEYS, QUEUED, REQUIRED_KEYS, ClusterSettings, is_immutable
from pipelines.config.resources import StepResources

APP = "wikigpt"
# Counted from the start of the first attempt (kubeflow/pipelines#13452): with the default of an hour, a training that
# fails in its second hour would not be retried.
RETRY_WINDOW = "24h"
_BY_A_TAG = "by a tag, which may name other bytes later"
S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
MLFLOW_KEYS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
NOTIFY_KEYS = ("WIKIGPT_WEBHOOK",)
_PUBLIC_PEM = "public.pem"  # the key of the Secret; the private key is beside it, under the name of `MOUNTED_KEY`


def require_image(cluster: ClusterSettings) -> None:
    """Checks the image of the steps.

    Raises:
        Failure: there is none, or its name is not a digest.
    """
    if not cluster.image:
        raise Failure(
            "No image is named for the steps",
            where="cluster.image",
            remedy="build and push one, then give its digest: --set cluster.image=registry/wikigpt@sha256:…",
            exit_code=ExitCode.USAGE,
        )
    if not (is_immutable(cluster.image) or cluster.allow_mutable_image):
        how = "by a digest that is not sha256: and 64 hex digits" if "@" in cluster.image else _BY_A_TAG
        raise Failure(
            f"The image {cluster.image!r} is named {how}",
            where="cluster.image",
            remedy="name it by digest, as name@sha256:…, or insist with --allow-mutable-image",
            exit_code=ExitCode.USAGE,
        )


def placement(cluster: ClusterSettings) -> Callable[[dsl.PipelineTask, str], None]:
    """The function that the DAG calls for each task when it is compiled for a cluster.

    Raises:
        Failure: the image cannot be used.
    """
    require_image(cluster)

    def place(task: dsl.PipelineTask, step: str) -> None:
        apply(task, step, cluster)

    return place


def apply(task: dsl.PipelineTask, step: str, cluster: ClusterSettings) -> None:
    """Sets image, resources, environment, user, labels and limits of a step on its task."""
    resources = cluster.resources_of(step)
    task.set_container_image(cluster.image)
    task.set_env_variable("WIKIGPT_IMAGE", cluster.image)
    _resources(task, resources, cluster)
    _environment(task, cluster)
    _signing(task, step, cluster)
    kubernetes.set_security_context(
        task, run_as_user=cluster.run_as_user, run_as_group=cluster.run_as_group, run_as_non_root=True
    )
    if cluster.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(cluster.image_pull_secrets))
    kubernetes.add_pod_label(task, "app.kubernetes.io/name", APP)
    kubernetes.add_pod_label(task, "app.kubernetes.io/component", step)
    _queue(task, step, cluster)
    kubernetes.set_timeout(task, resources.timeout_seconds)
    task.set_retry(resources.retries, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration=RETRY_WINDOW)


def pipeline_config(cluster: ClusterSettings) -> dsl.PipelineConfig:
    """The deadline of a whole run, and how long its pods are kept."""
    return dsl.PipelineConfig(
        active_deadline_seconds=cluster.run_deadline_seconds,
        ttl_seconds_after_success=cluster.keep_success_seconds,
        ttl_seconds_after_failure=cluster.keep_failure_seconds,
    )


def _resources(task: dsl.PipelineTask, resources: StepResources, cluster: ClusterSettings) -> None:
    task.set_cpu_request(resources.cpu_request).set_cpu_limit(resources.cpu_limit)
    task.set_memory_request(resources.memory_request).set_memory_limit(resources.memory_limit)
    if resources.shared_memory:
        kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory", size_limit=resources.shared_memory)
    if not resources.gpus:
        return
    task.set_accelerator_type(cluster.gpu_type).set_accelerator_limit(resources.gpus)
    for key, value in sorted(cluster.gpu_node_selector.items()):
        kubernetes.add_node_selector(task, key, value)
    for taint in cluster.gpu_tolerations:
        kubernetes.add_toleration(
            task,
            key=taint.key,
            operator=taint.operator,  # type: ignore[arg-type]
            value=taint.value,
            effect=taint.effect,  # type: ignore[arg-type]
        )


def _queue(task: dsl.PipelineTask, step: str, cluster: ClusterSettings) -> None:
    """Sets Kueue's labels on the pods that need a GPU. Kueue admits them one by one."""
    if step in QUEUED and cluster.queue:
        kubernetes.add_pod_label(task, "kueue.x-k8s.io/queue-name", cluster.queue)
        if cluster.priority:
            kubernetes.add_pod_label(task, "kueue.x-k8s.io/priority-class", cluster.priority)


def _environment(task: dsl.PipelineTask, cluster: ClusterSettings) -> None:
    """Sets addresses from the config map and credentials from Secrets, under the names that the step reads."""
    task.set_env_variable(DEADLINE_VARIABLE, str(cluster.run_deadline_seconds))
    kubernetes.use_config_map_as_env(task, cluster.config_map, _named(REQUIRED_KEYS))
    kubernetes.use_config_map_as_env(task, cluster.config_map, _named(OPTIONAL_KEYS), optional=True)
    if cluster.s3_secret:
        kubernetes.use_secret_as_env(task, cluster.s3_secret, _named(S3_KEYS))
    if cluster.mlflow_secret:
        kubernetes.use_secret_as_env(task, cluster.mlflow_secret, _named(MLFLOW_KEYS))
    if cluster.notify_secret:
        kubernetes.use_secret_as_env(task, cluster.notify_secret, _named(NOTIFY_KEYS), optional=True)


def _signing(task: dsl.PipelineTask, step: str, cluster: ClusterSettings) -> None:
    """Mounts the Secret with the signing key where a version is signed.

    The first step reads the public key of the Secret, so that a run without the Secret does not even start.
    """
    if cluster.signing_secret and step in ("download", "register"):
        kubernetes.use_secret_as_env(task, cluster.signing_secret, {_PUBLIC_PEM: PUBLIC_KEY})
        task.set_env_variable(SIGNING_KEY, MOUNTED_KEY)
    if cluster.signing_secret and step == "register":
        kubernetes.use_secret_as_volume(task, cluster.signing_secret, mount_path=str(PurePosixPath(MOUNTED_KEY).parent))


def _named(keys: tuple[str, ...]) -> dict[str, str]:
    """Maps keys to variables: equal names, except for MLflow's, see `use_own_variables`."""
    return {key: OWN_VARIABLES.get(key, key) for key in keys}
