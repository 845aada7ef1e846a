"""Resolves the alias champion to the version that is to be served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared.base.failure import ExitCode, Failure
from components.shared.tracking import registry
from pipelines.registry.approval import approved_champion
from pipelines.registry.verification import require_verified
from pipelines.serving.rejection import is_rejected

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from components.shared.tracking.sqlite_registry import AnyVersion

_REMEDY = "promote another version by `wikigpt promote`"


@dataclass(frozen=True)
class Wanted:
    """The version that is to be served.

    Attributes:
        model: the name of the registered model.
        version: the number of the version.
        weights_digest: the digest of its weights.
        refused: why it is not the version with the alias champion, as a sentence; None if it is.
    """

    model: str
    version: str
    weights_digest: str
    refused: str | None = None


def wanted_version(client: MlflowClient, model: str, served: str = "") -> Wanted:
    """Resolves the alias champion once. Whoever serves uses the number afterwards, because an alias may move.

    If somebody moved the alias who is no promoter, the champion before it is still wanted (docs/registry.md).

    Args:
        client: a client of the registry.
        model: the name of the registered model.
        served: the number of a version that was examined before, because it is served: its files are not read again.

    Raises:
        Failure: no version has the alias, or the one that has it must not be served. What is served stays.
    """
    approved = approved_champion(client, model)
    refused = approved.refused
    if refused and approved.version is None:
        raise Failure(
            f"No champion of {model} may be served: {refused.reason.rstrip('.')}",
            where=f"model {model}",
            remedy=_REMEDY,
        )
    if approved.version is None:
        raise Failure(
            f"No version of {model} has the alias {registry.CHAMPION}",
            where=f"model {model}",
            remedy="set it by `wikigpt promote`, or train the first version by `wikigpt run`",
        )
    champion = client.get_model_version(model, approved.version)
    if str(champion.version) != served:
        require_servable(client, champion)
    reason = refused.reason if refused else None
    return Wanted(model, str(champion.version), champion.tags.get(registry.WEIGHTS_DIGEST, ""), reason)


def require_servable(client: MlflowClient, version: ModelVersion) -> None:
    """Checks that a version can be served: it is registered completely, has its files, did not fail before, and
    verifies by the public key if one is configured.

    Raises:
        Failure: it must not be served.
    """
    label, where = f"Version {version.version} of {version.name}", f"models:/{version.name}/{version.version}"
    if version.status != "READY":
        raise Failure(f"{label} is {version.status}", where=where, remedy=_REMEDY)
    if not version.tags.get(registry.WEIGHTS_DIGEST):
        what = f"{label} has no tag {registry.WEIGHTS_DIGEST}, so nobody can tell which weights it should have"
        raise Failure(what, where=where, remedy="serve a version that this project registered")
    refuse_incomplete(version)
    if is_rejected(version):
        what = f"{label} failed its rollout: {version.tags[registry.ROLLOUT_FAILED]}"
        remedy = "correct the reason and promote it again by `wikigpt promote`, or promote another version"
        raise Failure(what, where=where, remedy=remedy)
    if not _has_files(client, version):
        raise Failure(f"{label} has no files of a model in MLflow", where=where, remedy=_REMEDY)
    require_verified(client, version)


def refuse_incomplete(version: AnyVersion) -> None:
    """Refuses a version of this project whose registration has not ended. Its files or its signature may still be
    missing, which says nothing against it.

    Raises:
        Failure: its registration has not ended, with the exit code of a wait.
    """
    if registry.WEIGHTS_DIGEST in version.tags and not registry.is_complete(version):
        raise Failure(
            f"Version {version.version} of {version.name} is not completely registered yet",
            where=f"models:/{version.name}/{version.version}",
            remedy="wait until its run has ended, and resume the run if it was interrupted",
            exit_code=ExitCode.TIMED_OUT,
        )


def _has_files(client: MlflowClient, version: ModelVersion) -> bool:
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(client.tracking_uri)  # MLflow resolves `models:/` by its global setting only
    folder = f"models:/{version.name}/{version.version}/model"
    try:
        found = mlflow.artifacts.list_artifacts(folder, tracking_uri=client.tracking_uri)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return any(file.path.endswith("config.json") for file in found)
