"""Verifies a signed version: signature, files, weights, provenance, card, completions and evaluation."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import Failure
from components.shared.signing.bundle import MODEL, PROVENANCE, Refused, verified_statement, verify_folder
from components.shared.signing.evidence import Evidence, fetch_evidence, signature_digest
from components.shared.signing.keys import PublicKey, configured_public_key
from components.shared.signing.provenance import (
    CARD,
    PREDICATE,
    byproducts_of,
    card_digest,
    completions_digest,
    digests_in,
    model_digests,
    signed_tags,
    subjects_of,
    tags_of,
    weights_digest_of,
)
from components.shared.tracking import registry

if TYPE_CHECKING:
    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader


@dataclass(frozen=True)
class Check:
    """One thing that was compared.

    Attributes:
        name: signature, files, weights, provenance, card, completions or evaluation.
        ok: whether it is as it was signed.
        seen: what was found, as a phrase.
    """

    name: str
    ok: bool
    seen: str


def verify_version(
    client: RegistryReader, version: AnyVersion, key: PublicKey, model: Path | None = None
) -> list[Check]:
    """Compares a version with its signature. Only the registry is asked, and no other service.

    Args:
        client: a client of the registry, or the database.
        version: the version.
        key: the public key that must have signed it.
        model: the folder with the model of the version, if it was downloaded already.

    Raises:
        Failure: the version is not signed, or a file is missing.
    """
    with tempfile.TemporaryDirectory(prefix="wikigpt-verify-") as scratch:
        return checks_of(fetch_evidence(client, version, Path(scratch), model), key)


def require_verified(
    client: RegistryReader, version: AnyVersion, folder: Path | None = None, key: PublicKey | None = None
) -> None:
    """Refuses a version that does not verify by the public key. Without a key, nothing is checked.

    Args:
        client: a client of the registry, or the database.
        version: the version.
        folder: the folder with the model that is going to be used, as `download_version` made it.
        key: the key; by default the one that `WIKIGPT_PUBLIC_KEY` names.

    Raises:
        Failure: the version is not signed, a file is missing, or something is not as it was signed.
    """
    if (key := key or configured_public_key()) is None:
        return
    checks = verify_version(client, version, key, folder)
    if failed := next((check for check in checks if not check.ok), None):
        raise refusal(version, failed)


def refusal(version: AnyVersion, failed: Check) -> Failure:
    """The failure of a version whose check failed."""
    address = f"models:/{version.name}/{version.version}"
    return Failure(
        f"Version {version.version} of {version.name} does not verify: {failed.seen}",
        where=address,
        remedy=f"use another version, and see all checks by `wikigpt verify {address}`",
    )


def checks_of(evidence: Evidence, key: PublicKey) -> list[Check]:
    """Compares the files, the tags and the card of a version with its signatures.

    If the provenance does not verify, it says nothing about the rest, so that only the signature is reported.
    """
    try:
        statement = _verified(evidence, key)
    except Refused as refused:
        return [Check("signature", False, str(refused))]
    made = byproducts_of(statement)
    card = {CARD: card_digest(evidence.card)}, _taken(made, CARD)
    completions = completions_digest(evidence.completions), _taken(made, registry.COMPLETIONS)
    files = model_digests(evidence.model)
    return [
        Check("signature", True, f"by the key {key.fingerprint[:16]}…"),
        _files(evidence, key, files, subjects_of(statement)),
        _weights(evidence, files),
        _tags(evidence.tags, tags_of(statement)),
        _check("card", _difference(*card), "as it was signed"),
        _check("completions", _difference(*completions), "as they were signed"),
        _evaluation(evidence, made),
    ]


def _verified(evidence: Evidence, key: PublicKey) -> dict[str, Any]:
    """The statement of the provenance, if the key signed it and both signature files are the registered ones.

    Raises:
        Refused: they are not.
    """
    # The tag has the digest of the files, so that not even white space in their JSON may change.
    if signature_digest(evidence.signature) != evidence.tags.get(registry.SIGNATURE):
        raise Refused("the signature files are not those that the version was registered with")
    if extra := sorted(digests_in(evidence.signature).keys() - {MODEL, PROVENANCE}):
        raise Refused(f"{extra[0]} is among the signature files and does not belong there")
    signer = evidence.tags.get(registry.SIGNED_BY, "")
    by_another = f"another key signed it, {signer[:16]}…, and not {key.fingerprint[:16]}…"
    try:
        statement = verified_statement(key, PREDICATE, evidence.signature / PROVENANCE)
    except Refused as refused:
        why = by_another if signer and signer != key.fingerprint else f"the signature is not valid, {refused}"
        raise Refused(why) from refused
    if signer != key.fingerprint:
        raise Refused(
            f"the tag {registry.SIGNED_BY} names another key than the one that signed, {key.fingerprint[:16]}…"
        )
    return statement


def _files(evidence: Evidence, key: PublicKey, files: Mapping[str, str], signed: Mapping[str, str]) -> Check:
    problem = _difference(files, signed)
    if problem is None:
        try:
            verify_folder(key, evidence.model, evidence.signature / MODEL)
        except Refused as refused:
            problem = f"{MODEL} does not verify the model, {refused}"
    return _check("files", problem, f"all {len(files)} as they were signed")


def _weights(evidence: Evidence, files: Mapping[str, str]) -> Check:
    recorded = evidence.tags.get(registry.WEIGHTS_DIGEST, "")
    try:
        digest = weights_digest_of(files)
    except Failure as failure:
        return Check("weights", False, failure.what)
    if digest != recorded:
        return Check("weights", False, f"their digest is {digest[:12]}…, and {recorded[:12]}… is registered")
    return Check("weights", True, f"of the digest {digest[:12]}…")


def _tags(tags: Mapping[str, str], signed: Mapping[str, str]) -> Check:
    now = signed_tags(tags)
    for name in sorted(now.keys() | signed.keys()):
        if now.get(name) != signed.get(name):
            there = f"{now[name]!r}"[:60] if name in now else "nothing"
            then = f"{signed[name]!r}"[:60] if name in signed else "nothing"
            return Check("provenance", False, f"the tag {name} is {there} in the registry, and {then} was signed")
    return Check("provenance", True, f"{len(now)} tags of the registry as they were signed")


def _evaluation(evidence: Evidence, signed: Mapping[str, str]) -> Check:
    files = {f"evaluation/{name}": sha256 for name, sha256 in digests_in(evidence.evaluation).items()}
    problem = _difference(files, signed) or _other_weights(evidence)
    return _check("evaluation", problem, f"all {len(files)} files as they were signed, of these weights")


def _taken(made: dict[str, str], name: str) -> dict[str, str]:
    """An entry, which is removed."""
    return {name: made.pop(name)} if name in made else {}


def _other_weights(evidence: Evidence) -> str | None:
    """The problem with an evaluation that scored other weights than those of the version."""
    try:
        content = json.loads((evidence.evaluation / registry.EVALUATION).read_text(encoding="utf-8"))
        measured_on = str(content["weights_digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"{registry.EVALUATION} does not say which weights it scored"
    if measured_on == evidence.tags.get(registry.WEIGHTS_DIGEST):
        return None
    return f"{registry.EVALUATION} scored other weights, {measured_on[:12]}…"


def _difference(found: Mapping[str, str], signed: Mapping[str, str]) -> str | None:
    """The first difference between digests by name, as a phrase."""
    for name in sorted(found.keys() | signed.keys()):
        if name not in signed:
            return f"{name} was not signed"
        if name not in found:
            return f"{name} is missing"
        if found[name] != signed[name]:
            return f"{name} differs from what was signed"
    return None


def _check(name: str, problem: str | None, otherwise: str) -> Check:
    return Check(name, problem is None, otherwise if problem is None else problem)
