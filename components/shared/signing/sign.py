"""Signs a registered version: the signature files become artifacts of its run, and two tags name them."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.base.failure import Failure, first_line
from components.shared.model.registered_model import download_version, recorded_completions, recorded_identity
from components.shared.signing.bundle import MODEL, PROVENANCE, sign_folder, sign_statement
from components.shared.signing.evidence import fetch_evaluation, signature_digest, signature_folder
from components.shared.signing.keys import SigningKey
from components.shared.signing.provenance import (
    PREDICATE,
    card_digest,
    completions_digest,
    digests_in,
    model_digests,
    provenance,
    weights_digest_of,
)
from components.shared.tracking import registry
from components.shared.tracking.accounts import current_account

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def sign_version(client: MlflowClient, version: ModelVersion, key: SigningKey) -> None:
    """Signs the files, the card, the completions, the evaluation and the lineage of a version as the registry has them.

    It can be repeated after an interruption at any point: the artifacts come first, and the tag that names them by
    their digest comes last. Artifacts of an earlier signature are not changed.

    Args:
        client: a client of the registry.
        version: the version with its card and its tags.
        key: the private key.

    Raises:
        Failure: the registry has other weights than the version was registered with, a file is missing, or the key
            cannot sign.
    """
    run = registry.artifacts_run(version)
    with tempfile.TemporaryDirectory(prefix="wikigpt-sign-") as scratch:
        model, signature = Path(scratch) / "model", Path(scratch) / "signature"
        download_version(client, version, model)
        evaluation = fetch_evaluation(client, version, Path(scratch) / "evaluation")
        files = model_digests(model)
        _require_weights(version, files)
        predicate = provenance(
            version.tags,
            card=card_digest(version.description or ""),
            completions=completions_digest(recorded_completions(client, version)),
            evaluation=digests_in(evaluation),
            settings=recorded_identity(client, version),
            signer=current_account(client),
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        signature.mkdir()
        try:
            sign_folder(key, model, signature / MODEL)
            sign_statement(key, files, PREDICATE, predicate, signature / PROVENANCE)
        except Exception as error:  # of a device that holds the key, and of its module
            raise Failure(
                f"The key could not sign: {type(error).__name__}, {first_line(error)}",
                where=f"models:/{version.name}/{version.version}",
                remedy="see that the key can still be used, then run again",
            ) from error
        digest = signature_digest(signature)
        client.log_artifacts(run, str(signature), signature_folder(digest))
    number = str(version.version)
    client.set_model_version_tag(version.name, number, registry.SIGNED_BY, key.public.fingerprint)
    client.set_model_version_tag(version.name, number, registry.SIGNATURE, digest)


def _require_weights(version: ModelVersion, files: dict[str, str]) -> None:
    digest = weights_digest_of(files)
    recorded = version.tags.get(registry.WEIGHTS_DIGEST, "")
    if digest != recorded:
        raise Failure(
            f"Version {version.version} of {version.name} has the weights {digest[:12]}… in MLflow, and"
            f" {recorded[:12] or 'no digest'}… is registered",
            where=f"models:/{version.name}/{version.version}",
            remedy="restore the artifacts of MLflow from a backup, or sign another version",
        )
