"""The key by which the step signs a version, and champions that do not verify."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from components.register.settings import RegisterSettings
from components.shared.base.failure import Failure
from components.shared.signing.keys import SigningKey, configured_public_key, open_signing_key
from components.shared.signing.reference import key_reference, require_pair
from components.shared.signing.verification import require_verified
from components.shared.tracking.gate import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def signing_key(settings: RegisterSettings) -> SigningKey | None:
    """Opens the key of the step; None if it signs nothing.

    Raises:
        Failure: there is no key although signing is required, it cannot be used, or it does not belong to the public
            key.
    """
    reference = key_reference(settings.signing, settings.signing_key)
    if reference is None:
        return None
    key = open_signing_key(reference)
    require_pair(key.public)
    return key


def why_not_verified(client: MlflowClient, champion: ModelVersion) -> str | None:
    """Why a champion must not be compared with; None if it verifies, or if no public key is configured.

    Raises:
        Failure: the public key cannot be used.
    """
    key = configured_public_key()
    try:
        if key:
            require_verified(client, champion, key=key)
    except Failure as failure:
        return failure.what
    return None


def not_compared(verdict: Verdict, why: str) -> Verdict:
    """The verdict about a version whose champion does not verify.

    Neither may such a champion be a reference, nor may somebody get a version promoted by damaging the champion. So the
    version becomes challenger, and a person decides.

    Args:
        verdict: the verdict of the gate if the champion has no scores.
        why: why the champion must not be compared with.
    """
    return replace(verdict, reason=f"It was not compared: {why}.") if verdict.word == "incomparable" else verdict
