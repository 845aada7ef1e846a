"""What is fixed when the pipeline is compiled for a cluster: image, resources, secrets by name, time limits."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipelines.cluster.places import EvaluatePlace, NoticePlace, Place, TokenizePlace, TrainPlace
from pipelines.steps import STEPS

REQUIRED_KEYS = ("WIKIGPT_STORE", "MLFLOW_TRACKING_URI")
OPTIONAL_KEYS = ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "WIKIGPT_S3_PATH_STYLE")

QUEUED = ("train", "evaluate")  # the steps that wait in `queue`
# As a value of a label it is no longer than 63 characters.
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
_DIGEST = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


def is_immutable(image: str) -> bool:
    """Whether the name of an image holds the digest of its content, so that it names the same bytes for ever."""
    return _DIGEST.fullmatch(image) is not None


@dataclass(frozen=True, kw_only=True)
class Toleration:
    """A taint of a node that a pod puts up with, in Kubernetes' words."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "coerce_numbers_to_str": True}

    key: str
    operator: str = "Exists"
    value: str | None = None
    effect: str | None = "NoSchedule"

    def __post_init__(self) -> None:
        if self.operator not in ("Exists", "Equal"):
            raise ValueError(f"operator must be Exists or Equal, got {self.operator!r}")
        if self.effect not in (None, "NoSchedule", "NoExecute", "PreferNoSchedule"):
            raise ValueError(f"effect must be NoSchedule, NoExecute or PreferNoSchedule, got {self.effect!r}")


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The section `cluster` of a profile.

    Attributes:
        image: every step's, by digest: `registry/wikigpt@sha256:…`. KFP, the store and a person who looks at a run
            must all mean the same bytes.
        allow_mutable_image: accept an image by tag.
        image_pull_secrets: names of Secrets with the registry's credentials.
        service_account: of the pods, which `infra/base/runs` makes; None takes the one that Kubeflow Pipelines was
            installed with.
        config_map: holds WIKIGPT_STORE and MLFLOW_TRACKING_URI, and may hold the other variables of `OPTIONAL_KEYS`.
        s3_secret: holds AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; None where the service account has the right.
        mlflow_secret: holds MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; None without authentication.
        notify_secret: may hold WIKIGPT_WEBHOOK, an address to which the notice is posted; None where there is none.
        gpu_type: the resource that the device plugin offers.
        gpu_node_selector: labels of the nodes of the GPU pool.
        gpu_tolerations: taints of the GPU pool.
        queue: a LocalQueue of Kueue in the namespace of the runs, in which the pods of train and evaluate wait for
            their quota; None where there is no Kueue.
        priority: a WorkloadPriorityClass of Kueue: the place of these pods in the queue. It needs a queue, since
            kfp-kubernetes 2.17 sets no priorityClassName on a pod.
        run_as_user: numeric user of the containers; None takes the image's, which is not root either.
        run_as_group: likewise.
        run_deadline_seconds: of the whole run, queueing included.
        keep_success_seconds: how long the pods of a run that succeeded, and their logs, are kept.
        keep_failure_seconds: likewise of one that failed.
        download, validate, tokenize, train, evaluate, register, notify: the place of each step.
    """

    image: str = ""
    allow_mutable_image: bool = False
    image_pull_secrets: tuple[str, ...] = ()
    service_account: str | None = "wikigpt-run"
    config_map: str = "wikigpt"
    s3_secret: str | None = "wikigpt-s3"
    mlflow_secret: str | None = "wikigpt-mlflow"
    notify_secret: str | None = "wikigpt-notify"
    gpu_type: str = "nvidia.com/gpu"
    gpu_node_selector: dict[str, str] = field(default_factory=dict)
    gpu_tolerations: tuple[Toleration, ...] = (Toleration(key="nvidia.com/gpu"),)
    queue: str | None = None
    priority: str | None = None
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_deadline_seconds: int = 24 * 3600
    keep_success_seconds: int = 2 * 24 * 3600
    keep_failure_seconds: int = 7 * 24 * 3600
    download: Place = field(default_factory=Place)
    validate: Place = field(default_factory=Place)
    tokenize: TokenizePlace = field(default_factory=TokenizePlace)
    train: TrainPlace = field(default_factory=TrainPlace)
    evaluate: EvaluatePlace = field(default_factory=EvaluatePlace)
    register: Place = field(default_factory=Place)
    notify: NoticePlace = field(default_factory=NoticePlace)

    def __post_init__(self) -> None:
        if self.run_as_user == 0:
            raise ValueError("run_as_user must not be 0: the steps do not run as root, got 0")
        for name in ("queue", "priority"):
            value = getattr(self, name)
            if value is not None and not _OBJECT_NAME.fullmatch(value):
                raise ValueError(
                    f"{name} must be a name of Kubernetes, of lower case letters and dashes, got {value!r}"
                )
        if self.priority and not self.queue:
            raise ValueError(f"priority needs a queue of Kueue, whose order it decides, got {self.priority!r} alone")
        for name in ("run_deadline_seconds", "keep_success_seconds", "keep_failure_seconds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for step in STEPS:
            if (seconds := self.place_of(step).timeout_seconds) > self.run_deadline_seconds:
                raise ValueError(
                    f"run_deadline_seconds must not be below the time-out of {step}, {seconds}, "
                    f"got {self.run_deadline_seconds}"
                )

    def place_of(self, step: str) -> Place:
        """The place of a step, by the step's name."""
        return getattr(self, step)
