"""Submits a run: compiles the pipeline, uploads it unless the server has it, and starts the run exactly once."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cluster.guards import refuse_folders, refuse_secrets, require_signing_key
from pipelines.cluster.namespaces import require_namespace
from pipelines.cluster.versions import Version, equals, experiment_id, find_version, upload, version_name
from pipelines.steps import NAME

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster
    from pipelines.config.settings import RunSettings

EXPERIMENT = "wikigpt"


@dataclass(frozen=True)
class Package:
    """The checked inputs of a run, before anything is sent.

    Attributes:
        ir: the compiled pipeline. It depends only on the profile and the settings of the cluster, so all runs of one
            profile share it.
        parameters: the parameters of this run.
        service_account: the service account of the pods, or None for the default of the server.
        profile: the name of the profile.
    """

    ir: bytes
    parameters: dict[str, Any]
    service_account: str | None
    profile: str


@dataclass(frozen=True)
class Submitted:
    """A run that was started."""

    run_id: str
    run_name: str
    version: Version
    address: str


def package(profile: str, overrides: Iterable[str] = (), corpus: str | None = None, *, force: bool = False) -> Package:
    """Compiles the pipeline and checks the settings of a run.

    Args:
        profile: a name, or the path of a YAML file.
        overrides: each `section.key=value`. Those of the section `cluster` are compiled in.
        corpus: replaces that of the profile.
        force: whether the run trains even if a version, a model or a checkpoint exists.

    Raises:
        Failure: a setting is wrong or is a secret, the image has no digest, a setting names a local folder, or there is
            no key although signing is required.
    """
    from pipelines.cluster.compiling import compile_settings, parameters_for_cluster
    from pipelines.cluster.placement import require_image
    from pipelines.config.settings import load

    overrides = list(overrides)
    settings = checked_settings(profile, overrides, corpus)
    require_signing_key(settings)
    if force:
        settings = settings.with_values("download", force=True)
    parameters = parameters_for_cluster(settings).to_dict()
    fixed = load(profile, [override for override in overrides if override.startswith("cluster.")])
    require_image(fixed.cluster)
    return Package(compile_settings(fixed), parameters, settings.cluster.service_account, settings.profile)


def checked_settings(profile: str, overrides: Iterable[str], corpus: str | None = None) -> RunSettings:
    """The settings of a run on the cluster, see `package`.

    Raises:
        Failure: a setting is wrong or is a secret, or a setting names a local folder.
    """
    from pipelines.config.settings import load

    overrides = list(overrides)
    refuse_secrets(overrides)
    settings = load(profile, overrides)
    if corpus:
        settings = settings.with_values("download", corpus=corpus)
    refuse_folders(settings)
    return settings


def submit(cluster: Cluster, sent: Package, pipeline: str = NAME) -> Submitted:
    """Starts a run of a pipeline exactly once, even if the answer of the server is lost.

    Raises:
        Failure: the server cannot be reached, or refuses.
    """
    version = send(cluster, sent, pipeline)
    experiment = experiment_id(cluster, EXPERIMENT)
    named = new_name(sent.profile)
    run_id = start(cluster, version, experiment, named, sent.parameters, sent.service_account)
    return Submitted(run_id, named, version, f"{_user_interface(cluster)}/#/runs/details/{run_id}")


def send(cluster: Cluster, sent: Package, pipeline: str) -> Version:
    """Uploads the compiled pipeline of a package, unless the server has it.

    Raises:
        Failure: the namespace does not exist, or the server cannot be reached or refuses.
    """
    require_namespace(cluster.access)
    with _written(sent.ir) as ir:
        return upload(cluster, ir, pipeline)


def find_sent(cluster: Cluster, sent: Package, pipeline: str) -> tuple[str, Version | None]:
    """The name of the pipeline version that a package is, and that version where the server has it.

    Raises:
        Failure: the namespace does not exist, or the server cannot be reached or refuses.
    """
    require_namespace(cluster.access)
    with _written(sent.ir) as ir:
        return version_name(ir), find_version(cluster, ir, pipeline)


def start(
    cluster: Cluster,
    version: Version,
    experiment: str,
    run_name: str,
    parameters: dict[str, Any],
    service_account: str | None,
) -> str:
    """Starts a run of a version under a unique name, and returns its ID."""
    import kfp_server_api

    def find() -> Any | None:
        answer = cluster.call_with_retry(
            f"run {run_name}",
            cluster.client.runs.run_service_list_runs,
            filter=equals("display_name", run_name),
            experiment_id=experiment,
        )
        return answer.runs[0] if answer.runs else None

    run = kfp_server_api.V2beta1Run(
        display_name=run_name,
        experiment_id=experiment,
        pipeline_version_reference=kfp_server_api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=parameters),
        service_account=service_account,
    )
    return cluster.create_once(f"run {run_name}", cluster.client.runs.run_service_create_run, find, run=run).run_id


def new_name(prefix: str) -> str:
    """A name for a run: prefix, time and four random letters."""
    return f"{prefix}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


@contextmanager
def _written(ir: bytes) -> Iterator[Path]:
    """A file of compiled bytes: kfp's client uploads files, and a version is named after the bytes in one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_bytes(ir)
        yield path


def _user_interface(cluster: Cluster) -> str:
    return os.environ.get("KF_PIPELINES_UI_ENDPOINT", cluster.address).rstrip("/")
