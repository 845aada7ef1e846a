"""Reads the copies of logs that the launcher of Kubeflow Pipelines writes to object storage when a step exits.

They are at `PIPELINE_ROOT/PIPELINE/RUN/STEP/TASK/executor-logs-ATTEMPT`.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.kube import NotVisible

if TYPE_CHECKING:
    from pipelines.cluster.pods import Pods

ROOT_VARIABLE = "KF_PIPELINES_ROOT"
CONFIG_MAP, CONFIG_KEY = "kfp-launcher", "defaultPipelineRoot"
_LOG = re.compile(r".*/executor-logs-\d+")


class StoredLogs:
    """The stored copies of the logs of one step.

    Args:
        run: the server's answer about the run.
        step: the name of the step.
        document: the compiled pipeline, which has a name and may have a pipeline root.
        pods: the pods of the run, which give access to the settings of the cluster.
    """

    def __init__(self, run: Any, step: str, document: dict[str, Any], pods: Pods):
        pipeline = document.get("pipeline_spec", document)
        self.root = pipeline_root(run, pipeline, pods)
        self._folder = f"{pipeline.get('pipelineInfo', {}).get('name', 'wikigpt')}/{run.run_id}/{step}/"

    @property
    def address(self) -> str:
        """The address of the copies, with PIPELINE_ROOT for an unknown root."""
        return f"{self.root or 'PIPELINE_ROOT'}/{self._folder}"

    @property
    def remedy(self) -> str:
        """How a person can read the log."""
        if self.root:
            return f"read the newest executor-logs-* under {self.address} with credentials of that bucket"
        return (
            f"name the pipeline root by {ROOT_VARIABLE} ({CONFIG_KEY} of the ConfigMap {CONFIG_MAP}), and give"
            f" credentials of that bucket: the log is under {self.address}"
        )

    def newest(self) -> str | None:
        """The copy that was written last; None if there is none.

        Raises:
            Failure: the pipeline root is unknown, cannot be read by S3's protocol, or access to it fails.
        """
        from components.shared.storage.s3_errors import translate_s3_errors

        if self.root is None:
            raise Failure("no pipeline root is known", where=ROOT_VARIABLE, remedy=self.remedy)
        scheme, _, rest = self.root.partition("://")
        if scheme not in ("s3", "minio"):
            raise Failure(
                f"{self.root} cannot be read by S3's protocol",
                where=self.address,
                remedy=self.remedy,
                exit_code=ExitCode.USAGE,
            )
        bucket, _, prefix = rest.partition("/")
        folder = f"{prefix}/{self._folder}" if prefix else self._folder
        with translate_s3_errors(self.address):
            client = _client()
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder)
            found = [entry for page in pages for entry in page.get("Contents", ()) if _LOG.fullmatch(entry["Key"])]
            if not found:
                return None
            last = max(found, key=lambda entry: (entry["LastModified"], entry["Key"]))
            return client.get_object(Bucket=bucket, Key=last["Key"])["Body"].read().decode(errors="replace")


def _client() -> Any:
    """boto3's client with few retries, since a person waits for the answer."""
    import boto3
    from botocore.config import Config

    style = {"1": "path", "0": "virtual"}.get(os.environ.get("WIKIGPT_S3_PATH_STYLE", ""), "auto")
    retries: Any = {"mode": "standard", "total_max_attempts": 2}
    config = Config(retries=retries, connect_timeout=5, read_timeout=30, s3={"addressing_style": style})
    try:
        return boto3.Session(region_name=os.environ.get("AWS_REGION")).client("s3", config=config)
    except ValueError as error:
        raise Failure(
            str(error).strip(),
            where="AWS_ENDPOINT_URL_S3",
            remedy="fix it: it begins with http:// or https://",
            exit_code=ExitCode.USAGE,
        ) from error


def pipeline_root(run: Any, pipeline: dict[str, Any], pods: Pods) -> str | None:
    """The pipeline root of a run, or None if it is unknown.

    It is taken from the run, the compiled pipeline, the environment, or the config map of the launcher, in this order.
    """
    given = (run.runtime_config.pipeline_root if run.runtime_config else None) or pipeline.get("defaultPipelineRoot")
    root = given or os.environ.get(ROOT_VARIABLE)
    if not root and (kubernetes := pods.kubernetes):
        try:
            root = (kubernetes.config_map(CONFIG_MAP, kubernetes.namespace) or {}).get(CONFIG_KEY)
        except NotVisible:
            root = None
    return root.rstrip("/") if root else None
