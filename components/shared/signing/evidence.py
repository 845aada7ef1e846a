"""The files of a signed version, fetched from the registry: its model, its evaluation and its signatures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.base.failure import ExitCode, Failure
from components.shared.model.registered_model import download_version, recorded_completions
from components.shared.signing.bundle import MODEL, PROVENANCE
from components.shared.storage.files import file_fact
from components.shared.storage.manifest import digest_of
from components.shared.tracking import registry

if TYPE_CHECKING:
    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

_FOLDER = "signature"


@dataclass(frozen=True)
class Evidence:
    """Everything that the verification of a version reads.

    Attributes:
        model: the folder with the files of the model.
        evaluation: the folder with the files of its evaluation.
        signature: the folder with `model.sig` and `provenance.sig`.
        tags: the tags of the version.
        card: its card.
        completions: the file with its recorded completions; None if it has none.
    """

    model: Path
    evaluation: Path
    signature: Path
    tags: Mapping[str, str]
    card: str
    completions: bytes | None


def fetch_evidence(client: RegistryReader, version: AnyVersion, scratch: Path, model: Path | None = None) -> Evidence:
    """Fetches what the verification of a version reads. Files that are on this machine are read where they are.

    Args:
        client: a client of the registry, or the database.
        version: the version.
        scratch: a folder for what is downloaded.
        model: the folder with the model of the version, if it was downloaded already.

    Raises:
        Failure: the version is not signed, or a file is missing.
    """
    signature = fetch_signature(client, version, scratch / "signature")
    evaluation = fetch_evaluation(client, version, scratch / "evaluation")
    if model is None:
        download_version(client, version, model := scratch / "model")
    completions = recorded_completions(client, version)
    return Evidence(model, evaluation, signature, dict(version.tags), version.description or "", completions)


def fetch_signature(client: RegistryReader, version: AnyVersion, scratch: Path) -> Path:
    """The folder with the signature files of a version.

    Raises:
        Failure: the version is not signed, or a file is missing.
    """
    address = f"models:/{version.name}/{version.version}"
    if not (digest := version.tags.get(registry.SIGNATURE)):
        raise Failure(
            f"Version {version.version} of {version.name} is not signed",
            where=address,
            remedy=f"sign it by `wikigpt sign {address} --key key.pem`, or use a signed version",
        )
    folder = _fetch(client, version, signature_folder(digest), scratch)
    if folder is None or not all((folder / name).is_file() for name in (MODEL, PROVENANCE)):
        raise _missing(f"The signature of version {version.version} of {version.name}", address)
    return folder


def fetch_evaluation(client: RegistryReader, version: AnyVersion, scratch: Path) -> Path:
    """The folder with the evaluation of a version.

    Raises:
        Failure: it is missing.
    """
    weights = version.tags.get(registry.WEIGHTS_DIGEST, "")
    folder = _fetch(client, version, registry.evaluation_folder(weights), scratch)
    if folder is None or not (folder / registry.EVALUATION).is_file():
        address = f"models:/{version.name}/{version.version}"
        raise _missing(f"The evaluation of version {version.version} of {version.name}", address)
    return folder


def signature_digest(folder: Path) -> str:
    """The digest of the signature files in a folder, which their tag and the name of their artifacts contain."""
    return digest_of({name: file_fact(folder / name).sha256 for name in (MODEL, PROVENANCE)})


def signature_folder(digest: str) -> str:
    """The folder of signature files among the artifacts of a run."""
    return f"{_FOLDER}/{digest}"


def _fetch(client: RegistryReader, version: AnyVersion, name: str, scratch: Path) -> Path | None:
    scratch.mkdir(parents=True)
    if (found := registry.artifacts_of(client, version, name, scratch)) is None:
        registry.require_answer(client, version)
    return found


def _missing(what: str, address: str) -> Failure:
    return Failure(
        f"{what} is missing among the artifacts of MLflow",
        where=address,
        remedy="restore the artifacts of MLflow from a backup, or use another version",
        exit_code=ExitCode.FAILED,
    )
