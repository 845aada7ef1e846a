"""Signs and verifies by model-signing: a folder with its public interface, a statement with the signer below it.

Both signatures are Sigstore bundles whose DSSE envelope holds an in-toto statement. That of a folder is the one of
OpenSSF Model Signing 1.0, which every program that follows this specification verifies. The public interface of the
library signs folders only; its signers sign any statement, and are used here for the provenance. The version of the
library is pinned.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from components.shared.base.failure import first_line
from components.shared.signing.keys import PublicKey, SigningKey
from components.shared.storage.manifest import MANIFEST

MODEL, PROVENANCE = "model.sig", "provenance.sig"
# The files beside the signed ones in an exported folder, and the manifest of the folder that is served.
BESIDE = ("README.md", MANIFEST, MODEL, PROVENANCE)
_STATEMENT = "https://in-toto.io/Statement/v1"


class Refused(Exception):
    """A signature does not verify; the message is the rest of a sentence."""


def sign_folder(key: SigningKey, folder: Path, signature: Path) -> None:
    """Signs the names and digests of all files of a folder, except `BESIDE`."""
    from model_signing.signing import Config

    config = Config().set_hashing_config(_hashing(folder))
    config._signer = key.signer
    config.sign(folder, signature)


def verify_folder(key: PublicKey, folder: Path, signature: Path) -> None:
    """Verifies that a key signed exactly the files of a folder.

    Raises:
        Refused: it did not.
    """
    from model_signing.verifying import Config

    with _written(key) as path, _refusing():
        Config().use_elliptic_key_verifier(public_key=path).set_hashing_config(_hashing(folder)).verify(
            folder, signature
        )


def sign_statement(
    key: SigningKey, subjects: Mapping[str, str], kind: str, predicate: Mapping[str, Any], signature: Path
) -> None:
    """Signs an in-toto statement about files.

    Args:
        key: the private key.
        subjects: the sha256 of the files by name.
        kind: the type of the predicate, a URI.
        predicate: JSON values.
        signature: the file to write.
    """
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
    from in_toto_attestation.v1.statement import Statement

    named = [ResourceDescriptor(name=name, digest={"sha256": sha256}).pb for name, sha256 in sorted(subjects.items())]
    statement = Statement(named, kind, dict(predicate))
    statement.validate()
    key.signer.sign(SimpleNamespace(statement=statement)).write(signature)


def verified_statement(key: PublicKey, kind: str, signature: Path) -> dict[str, Any]:
    """Verifies a signed statement and returns it as JSON values.

    Raises:
        Refused: the key did not sign it, or its predicate is of another type.
    """
    from model_signing._signing.sign_ec_key import Verifier
    from model_signing._signing.sign_sigstore_pb import Signature

    with _written(key) as path, _refusing():
        form, payload = Verifier(path)._verify_signed_content(Signature.read(signature))
        statement = json.loads(payload)
        if form != "application/vnd.in-toto+json" or statement["_type"] != _STATEMENT:
            raise ValueError(f"it holds {form} and no in-toto statement")
        if statement["predicateType"] != kind:
            raise ValueError(f"it is about {statement['predicateType']}")
        return statement


def _hashing(folder: Path) -> Any:
    """Every file counts, also those of git, which the library leaves out by default."""
    from model_signing.hashing import Config

    beside = [folder / name for name in BESIDE]
    return Config().use_file_serialization(ignore_paths=beside).set_ignored_paths(paths=beside, ignore_git_paths=False)


@contextmanager
def _written(key: PublicKey) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wikigpt-key-") as scratch:
        path = Path(scratch) / "public.pem"
        path.write_bytes(key.pem)
        yield path


@contextmanager
def _refusing() -> Iterator[None]:
    """Whatever a signature that was tampered with makes the libraries raise, it is refused."""
    try:
        yield
    except Exception as error:
        why = first_line(error, "the signature is not that of this key")
        raise Refused(f"{type(error).__name__}: {why}") from error
