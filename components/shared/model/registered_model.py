"""Downloads the model of a registered version from MLflow, which keeps it even if the store is deleted."""

from __future__ import annotations

import ast
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import Failure, first_line
from components.shared.reuse.trained import KIND, weights_digest
from components.shared.storage.manifest import write_manifest
from components.shared.tracking import registry
from components.shared.tracking.sqlite_registry import LocalVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

# The folders of the transformers flavor.
_PARTS = ("model", "components/tokenizer")


def registered_model(client: MlflowClient, version: ModelVersion, folder: Path) -> dict[str, Any] | None:
    """Downloads the model of a version to a new folder if its weights have the digest of the version.

    Returns:
        The tokenizer digest and identity from the manifest of the model; None if MLflow no longer has the model, or has
        it in other weight files, so that its weights cannot be verified.
    """
    try:
        return download_verified(client, version, folder)
    except Failure:
        return None


def download_verified(client: MlflowClient, version: AnyVersion, folder: Path) -> dict[str, Any]:
    """Downloads the model of a version to a new folder of kind model, and verifies the digest of its weights.

    Returns:
        The metadata of the folder: the tokenizer digest of the version and the identity of its model.

    Raises:
        Failure: MLflow no longer has the model, or has other weights than the version was registered with.
    """
    from mlflow.exceptions import MlflowException

    address = f"models:/{version.name}/{version.version}"
    remedy = "restore the artifacts of MLflow from a backup, or use another version"
    try:
        download_version(client, version, folder)
        identity = recorded_identity(client, version)
    except (MlflowException, OSError) as error:
        raise Failure(
            f"The files of the version cannot be downloaded from MLflow: {first_line(error)}",
            where=address,
            remedy=remedy,
        ) from error
    metadata = {
        "tokenizer_digest": version.tags.get(registry.TOKENIZER_DIGEST, ""),
        "identity": {name: _value(text) for name, text in identity.items()},
    }
    digest, recorded = weights_digest(write_manifest(folder, KIND, metadata)), version.tags.get(registry.WEIGHTS_DIGEST)
    if digest != recorded:
        raise Failure(
            f"The weights of the version in MLflow are damaged: their digest is {digest[:12]}…, and"
            f" {str(recorded)[:12]}… was registered",
            where=address,
            remedy=remedy,
        )
    return metadata


def recorded_identity(client: MlflowClient, version: AnyVersion) -> dict[str, str]:
    """The inputs of the training of a version from the parameters of its logged model, as texts by flat names."""
    source = version.source or ""
    while not source.startswith("models:/m-"):  # a copy names the version that it was copied from
        name, _, number = source.removeprefix("models:/").rpartition("/")
        source = client.get_model_version(name, number).source or ""
    return dict(client.get_logged_model(source.removeprefix("models:/")).params)


def download_version(client: RegistryReader, version: AnyVersion, folder: Path) -> None:
    """Downloads a version and copies its model and tokenizer into one new folder.

    Raises:
        Failure: the version has no model or no tokenizer.
    """
    address = f"models:/{version.name}/{version.version}"
    with _logged_model(client, version, address) as logged:
        for part in _PARTS:
            if (logged / part).is_dir():
                shutil.copytree(logged / part, folder, dirs_exist_ok=True)
    for file, what in {"config.json": "model", "tokenizer.json": "tokenizer"}.items():
        if not (folder / file).is_file():
            raise Failure(
                f"The version has no {what}: there is no {file}",
                where=address,
                remedy="use another version, or run the pipeline again to make it again",
            )


def recorded_completions(client: RegistryReader, version: AnyVersion) -> bytes | None:
    """The JSON of the completions that were recorded with a version; None for one of an earlier release, without them.

    Raises:
        MlflowException: MLflow does not answer.
    """
    if isinstance(version, LocalVersion) and (here := version.folder):
        path = here / registry.COMPLETIONS
        return path.read_bytes() if path.is_file() else None
    import mlflow
    from mlflow.exceptions import MlflowException

    address = f"models:/{version.name}/{version.version}/{registry.COMPLETIONS}"
    mlflow.set_tracking_uri(client.tracking_uri)
    with tempfile.TemporaryDirectory(prefix="wikigpt-completions-") as scratch:
        try:
            found = mlflow.artifacts.download_artifacts(address, dst_path=scratch, tracking_uri=client.tracking_uri)
        except (MlflowException, OSError):
            registry.require_answer(client, version)
            return None
        return Path(found).read_bytes()


@contextmanager
def _logged_model(client: RegistryReader, version: AnyVersion, address: str) -> Iterator[Path]:
    """The folder that MLflow logged. If it is on another machine, it is downloaded and exists within the block only."""
    if isinstance(version, LocalVersion) and (here := version.folder):
        yield here
        return
    import mlflow

    with tempfile.TemporaryDirectory(prefix="wikigpt-version-") as scratch:
        mlflow.set_tracking_uri(client.tracking_uri)  # MLflow resolves `models:/` by its global setting only
        yield Path(mlflow.artifacts.download_artifacts(address, dst_path=scratch, tracking_uri=client.tracking_uri))


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
