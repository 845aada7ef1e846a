"""The settings that are compiled into the pipeline for a cluster: image, resources, names of Secrets, time limits."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from components.shared.base.ranges import Form, Range, check_ranges, safe_repr
from pipelines.config.resources import (
    SECONDS,
    EvaluateResources,
    NotifyResources,
    StepResources,
    TokenizeResources,
    TrainResources,
)
from pipelines.steps import STEPS

REQUIRED_KEYS = ("WIKIGPT_STORE", "MLFLOW_TRACKING_URI")
OPTIONAL_KEYS = ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "WIKIGPT_S3_PATH_STYLE")

# Names of objects, keys and values of labels, and names of resources that Kubernetes accepts.
_OBJECT = Form(
    r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?",
    "the name of an object of Kubernetes: lower case letters, digits and dashes",
)
_KEY = Form(
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
    "a key of Kubernetes, as in nvidia.com/gpu",
)
_VALUE = Form(
    r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", "a value of a label of Kubernetes: letters, digits and dashes"
)
_IMAGE = Form(r"[^\s\x00-\x1f]{0,512}", "the name of an image, without spaces")
_ID = 2**31 - 1  # the largest user or group ID that Kubernetes accepts
# The name is also a label value, which has at most 63 characters.
_LABELLED = Form(
    r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?", "a name of Kubernetes, of at most 63 lower case letters, digits and dashes"
)
QUEUED = ("train", "evaluate")  # the steps that wait in `queue`
_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


def is_immutable(image: str) -> bool:
    """Whether the name of an image contains the digest of its content, so that it always names the same bytes."""
    return _DIGEST.fullmatch(image) is not None


@dataclass(frozen=True, kw_only=True)
class Toleration:
    """A toleration of a pod for a taint of a node, with the fields of Kubernetes."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "coerce_numbers_to_str": True}

    key: Annotated[str, _KEY]
    operator: str = "Exists"
    value: Annotated[str | None, _VALUE] = None
    effect: str | None = "NoSchedule"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.operator not in ("Exists", "Equal"):
            raise ValueError(f"operator must be Exists or Equal, got {safe_repr(self.operator)}")
        if self.effect not in (None, "NoSchedule", "NoExecute", "PreferNoSchedule"):
            raise ValueError(f"effect must be NoSchedule, NoExecute or PreferNoSchedule, got {safe_repr(self.effect)}")
        if self.operator == "Exists" and self.value:
            raise ValueError(f"value must be left out with the operator Exists, got {safe_repr(self.value)}")


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The section `cluster` of a profile.

    Attributes:
        image: the image of every step, by digest: `registry/wikigpt@sha256:…`. KFP, the store and the reader of a run
            must refer to the same image.
        allow_mutable_image: whether an image that is named by a tag is accepted.
        image_pull_secrets: the names of Secrets with the registry's credentials.
        service_account: the service account of the pods. `infra/base/runs` creates it; None uses the default of
            Kubeflow Pipelines.
        config_map: the config map with WIKIGPT_STORE and MLFLOW_TRACKING_URI, and optionally the other variables of
            `OPTIONAL_KEYS`.
        s3_secret: the Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; None if the service account has the
            permission.
        mlflow_secret: the Secret with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; None without
            authentication.
        notify_secret: the Secret that may contain WIKIGPT_WEBHOOK, the address to which notify posts; None if there is
            no webhook.
        signing_secret: the Secret with the private key that signs versions and its public key, `key.pem` and
            `public.pem`; None if there is none. The private key is mounted in the step register only.
        gpu_type: the resource name of the device plugin.
        gpu_node_selector: the labels of the nodes of the GPU pool.
        gpu_tolerations: the taints of the GPU pool.
        queue: a LocalQueue of Kueue in the namespace of the runs, in which the pods of train and evaluate wait for
            their quota; None if there is no Kueue.
        priority: a WorkloadPriorityClass of Kueue, which orders these pods in the queue. It needs a queue, since
            kfp-kubernetes 2.17 sets no priorityClassName on a pod.
        run_as_user: the numeric user of the containers; None uses that of the image, which is not root.
        run_as_group: the numeric group of the containers; None uses that of the image.
        run_deadline_seconds: the seconds that a whole run may take, including its time in queues.
        keep_success_seconds: the seconds that the pods of a successful run, and their logs, are kept.
        keep_failure_seconds: the seconds that the pods of a failed run, and their logs, are kept.
        download, validate, tokenize, train, evaluate, register, notify: the resources of each step.
    """

    image: Annotated[str, _IMAGE] = ""
    allow_mutable_image: bool = False
    image_pull_secrets: Annotated[tuple[str, ...], _OBJECT] = ()
    service_account: Annotated[str | None, _OBJECT] = "wikigpt-run"
    config_map: Annotated[str, _OBJECT] = "wikigpt"
    s3_secret: Annotated[str | None, _OBJECT] = "wikigpt-s3"
    mlflow_secret: Annotated[str | None, _OBJECT] = "wikigpt-mlflow"
    notify_secret: Annotated[str | None, _OBJECT] = "wikigpt-notify"
    signing_secret: Annotated[str | None, _OBJECT] = None
    gpu_type: Annotated[str, _KEY] = "nvidia.com/gpu"
    gpu_node_selector: dict[str, str] = field(default_factory=dict)
    gpu_tolerations: tuple[Toleration, ...] = (Toleration(key="nvidia.com/gpu"),)
    queue: Annotated[str | None, _LABELLED] = None
    priority: Annotated[str | None, _LABELLED] = None
    run_as_user: Annotated[int | None, Range(1, _ID)] = None
    run_as_group: Annotated[int | None, Range(0, _ID)] = None
    run_deadline_seconds: Annotated[int, SECONDS] = 24 * 3600
    keep_success_seconds: Annotated[int, SECONDS] = 2 * 24 * 3600
    keep_failure_seconds: Annotated[int, SECONDS] = 7 * 24 * 3600
    download: StepResources = field(default_factory=StepResources)
    validate: StepResources = field(default_factory=StepResources)
    tokenize: TokenizeResources = field(default_factory=TokenizeResources)
    train: TrainResources = field(default_factory=TrainResources)
    evaluate: EvaluateResources = field(default_factory=EvaluateResources)
    register: StepResources = field(default_factory=StepResources)
    notify: NotifyResources = field(default_factory=NotifyResources)

    def __post_init__(self) -> None:
        if self.run_as_user == 0:
            raise ValueError("run_as_user must not be 0: the steps do not run as root, got 0; the nearest is 1")
        check_ranges(self)
        for key, value in self.gpu_node_selector.items():
            if problem := _KEY.problem(key) or _VALUE.problem(value):
                raise ValueError(f"gpu_node_selector.{key} {problem}")
        if self.priority and not self.queue:
            raise ValueError(
                f"priority needs a queue of Kueue, whose order it decides, got {safe_repr(self.priority)} alone"
            )
        for step in STEPS:
            if (seconds := self.resources_of(step).timeout_seconds) > self.run_deadline_seconds:
                raise ValueError(
                    f"run_deadline_seconds must not be below the time-out of {step}, {seconds}, "
                    f"got {self.run_deadline_seconds}"
                )

    def resources_of(self, step: str) -> StepResources:
        """The resources of the step with this name."""
        return getattr(self, step)
