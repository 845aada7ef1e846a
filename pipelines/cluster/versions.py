"""The pipeline and its versions on the server. A version is named after the digest of the compiled pipeline."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster


@dataclass(frozen=True)
class Version:
    """A version of the pipeline on the server.

    Attributes:
        pipeline_id: the ID of the pipeline.
        version_id: the ID of the version.
        name: `ir-` and the first 16 hex digits of the digest.
        uploaded: whether it was uploaded now; False if the server had it.
    """

    pipeline_id: str
    version_id: str
    name: str
    uploaded: bool


def version_name(ir: Path) -> str:
    """The name of the version of a compiled pipeline: equal bytes have equal names."""
    return f"ir-{hashlib.sha256(ir.read_bytes()).hexdigest()[:16]}"


def find_version(cluster: Cluster, ir: Path, pipeline: str) -> Version | None:
    """Finds a compiled pipeline on the server; None where the server does not have it.

    Args:
        cluster: the server.
        ir: the compiled pipeline.
        pipeline: its name on the server.

    Raises:
        Failure: the server cannot be reached, or refuses.
    """
    if (found := find_pipeline(cluster, pipeline)) is None:
        return None
    name = version_name(ir)
    version = _find_version(cluster, found.pipeline_id, name, pipeline)
    return version and Version(found.pipeline_id, version.pipeline_version_id, name, uploaded=False)


def upload(cluster: Cluster, ir: Path, pipeline: str) -> Version:
    """Uploads a compiled pipeline, unless the server has it.

    Args:
        cluster: the server.
        ir: the compiled pipeline.
        pipeline: its name on the server. It is created where it does not exist.

    Raises:
        Failure: the server cannot be reached, or refuses.
    """
    name, pipeline_id = version_name(ir), create_pipeline(cluster, pipeline)
    find = partial(_find_version, cluster, pipeline_id, name, pipeline)
    if version := find():
        return Version(pipeline_id, version.pipeline_version_id, name, uploaded=False)
    version = cluster.create_once(
        f"version {name}",
        cluster.client.pipeline_uploads.upload_pipeline_version,
        find,
        uploadfile=str(ir),
        name=name,
        display_name=name,
        pipelineid=pipeline_id,
    )
    return Version(pipeline_id, version.pipeline_version_id, name, uploaded=True)


def _find_version(cluster: Cluster, pipeline_id: str, name: str, pipeline: str) -> Any | None:
    calls = cluster.client.pipelines.pipeline_service_list_pipeline_versions
    found = cluster.paginate(f"pipeline {pipeline}", calls, "pipeline_versions", pipeline_id=pipeline_id)
    return next((version for version in found if name in (version.name, version.display_name)), None)


def document_of(cluster: Cluster, run: Any) -> dict[str, Any]:
    """The compiled pipeline of a run with its platform configuration; empty if the version was deleted."""
    from pipelines.cluster.errors import Missing

    if not (reference := run.pipeline_version_reference):
        return run.pipeline_spec or {}
    try:
        version = cluster.call_with_retry(
            f"version {reference.pipeline_version_id}",
            cluster.client.pipelines.pipeline_service_get_pipeline_version,
            pipeline_id=reference.pipeline_id,
            pipeline_version_id=reference.pipeline_version_id,
        )
    except Missing:
        return {}
    return version.pipeline_spec or {}


def find_pipeline(cluster: Cluster, pipeline: str) -> Any | None:
    """The pipeline of a name, or None."""
    listing = cluster.client.pipelines.pipeline_service_list_pipelines
    return _first(cluster, f"pipeline {pipeline}", listing, "pipelines", pipeline)


def create_pipeline(cluster: Cluster, pipeline: str) -> str:
    """The id of the pipeline of a name, which is created where it does not exist.

    Raises:
        Failure: the server cannot be reached, or refuses.
    """
    import kfp_server_api

    find = partial(find_pipeline, cluster, pipeline)
    found = find() or cluster.create_once(
        f"pipeline {pipeline}",
        cluster.client.pipelines.pipeline_service_create_pipeline,
        find,
        pipeline=kfp_server_api.V2beta1Pipeline(name=pipeline, display_name=pipeline, namespace=cluster.namespace),
    )
    return found.pipeline_id


def experiment_id(cluster: Cluster, experiment: str) -> str:
    """The id of the experiment of a name, which is created where it does not exist.

    Raises:
        Failure: the server cannot be reached, or refuses.
    """
    if found := find_experiment(cluster, experiment):
        return found.experiment_id
    import kfp_server_api

    made = cluster.create_once(
        f"experiment {experiment}",
        cluster.client.experiments.experiment_service_create_experiment,
        lambda: find_experiment(cluster, experiment),
        experiment=kfp_server_api.V2beta1Experiment(display_name=experiment, namespace=cluster.namespace),
    )
    return made.experiment_id


def find_experiment(cluster: Cluster, experiment: str) -> Any | None:
    """The experiment of a name, or None."""
    listing = cluster.client.experiments.experiment_service_list_experiments
    return _first(cluster, f"experiment {experiment}", listing, "experiments", experiment)


def _first(cluster: Cluster, what: str, listing: Callable[..., Any], items: str, name: str) -> Any | None:
    """The first item with a display name in the answer of a list method, or None."""
    answer = cluster.call_with_retry(
        what, listing, filter=equals("display_name", name), namespace=cluster.namespace or ""
    )
    return next(iter(getattr(answer, items) or []), None)


def equals(key: str, value: str) -> str:
    """A filter for lists: entries whose `key` is `value`."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "string_value": value}]})
