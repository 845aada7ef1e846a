"""Verifies and signs versions of the registry for the commands, see `components.shared.signing`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared.base.failure import ExitCode, Failure
from components.shared.signing.keys import PUBLIC_KEY, PublicKey, SigningKey, configured_public_key
from components.shared.signing.sign import sign_version
from components.shared.signing.verification import Check, require_verified, verify_version
from components.shared.tracking import registry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

__all__ = ["Verification", "require_verified", "sign", "verify"]


@dataclass(frozen=True)
class Verification:
    """The result for one version.

    Attributes:
        model, version: the version.
        key: the fingerprint of the public key.
        verified: whether everything is as it was signed by that key.
        checks: what was compared.
    """

    model: str
    version: str
    key: str
    verified: bool
    checks: tuple[Check, ...]


def verify(client: RegistryReader, version: AnyVersion, key: PublicKey | None = None) -> Verification:
    """Compares a version with its signature.

    Args:
        client: a client of the registry, or the database.
        version: the version, see `resolve`.
        key: the public key; by default the one that `WIKIGPT_PUBLIC_KEY` names.

    Raises:
        Failure: no key is named, the version is not signed, or a file is missing.
    """
    if (key := key or configured_public_key()) is None:
        raise Failure(
            "No public key is named",
            where=f"--public-key or {PUBLIC_KEY}",
            remedy="name the key of whoever signed the version",
            exit_code=ExitCode.USAGE,
        )
    checks = tuple(verify_version(client, version, key))
    number = str(version.version)
    return Verification(version.name, number, key.fingerprint, all(check.ok for check in checks), checks)


def sign(
    client: MlflowClient, version: ModelVersion, key: SigningKey, report: Callable[[str], object] = lambda _: None
) -> None:
    """Signs a version that is registered already, also if it is signed by another key.

    Args:
        client: a client of the registry.
        version: the version, see `resolve`.
        key: the private key.
        report: a function that is called with a sentence about an earlier signature.

    Raises:
        Failure: the version is not completely registered or not from this project, or `sign_version` fails.
    """
    address = f"models:/{version.name}/{version.version}"
    if registry.WEIGHTS_DIGEST not in version.tags or not registry.is_complete(version):
        raise Failure(
            f"Version {version.version} of {version.name} is not completely registered",
            where=address,
            remedy="let its run finish, or sign a version that `wikigpt run` registered",
            exit_code=ExitCode.USAGE,
        )
    if before := version.tags.get(registry.SIGNED_BY):
        report(f"The signature by the key {before[:16]}… is replaced.")
    sign_version(client, version, key)
