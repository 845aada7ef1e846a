"""Where the private key of a run is, by its settings and the environment."""

from __future__ import annotations

import os
from pathlib import Path

from components.shared.base.failure import ExitCode, Failure
from components.shared.signing.keys import (
    MOUNTED_KEY,
    PUBLIC_KEY,
    SIGNING_KEY,
    PublicKey,
    check_key_file,
    configured_public_key,
    is_uri,
    problem_of,
)

REMEDY = (
    "name a key by register.signing_key or WIKIGPT_SIGNING_KEY, on a cluster a Secret by cluster.signing_secret, or set"
    " register.signing=never"
)


def key_reference(signing: str, named: str | None) -> str | None:
    """The path or URI of the private key; None if nothing is signed.

    Args:
        signing: the setting `register.signing`.
        named: the setting `register.signing_key`.

    Raises:
        Failure: signing is required and there is no key, or the variable holds something else than a path or URI.
    """
    if signing == "never":
        return None
    reference = named or os.environ.get(SIGNING_KEY) or None
    if reference is None:
        if signing == "required":
            raise no_key("the settings of the run")
        return None
    if problem := problem_of(reference):
        raise Failure(
            f"{SIGNING_KEY} {problem}", where="the environment", remedy="correct it", exit_code=ExitCode.USAGE
        )
    return reference


def check_signing_key(signing: str, named: str | None) -> str | None:
    """Checks at the start of a run that its last step will be able to sign, as far as can be seen from here.

    A key in a file is opened. The Secret of a cluster is mounted only where it signs, and a device may be reachable
    only there.

    Returns:
        The fingerprint of the key in a file, or None.

    Raises:
        Failure: there is no key although signing is required, the key cannot be used, or is not that of the public key.
    """
    reference = key_reference(signing, named)
    if reference is None or reference == MOUNTED_KEY or is_uri(reference):
        return None
    public = check_key_file(Path(reference).expanduser())
    require_pair(public)
    return public.fingerprint


def require_pair(public: PublicKey) -> None:
    """Requires that the versions which a key signs will verify by the configured public key, if there is one.

    Raises:
        Failure: they will not.
    """
    expected = configured_public_key()
    if expected and expected.fingerprint != public.fingerprint:
        raise Failure(
            f"The signing key {public.fingerprint[:16]}… does not belong to the public key"
            f" {expected.fingerprint[:16]}…, so every version that it signs would be refused",
            where=f"{SIGNING_KEY} or register.signing_key, and {PUBLIC_KEY}",
            remedy="name two keys that belong together",
            exit_code=ExitCode.USAGE,
        )


def no_key(where: str) -> Failure:
    """The failure of a run that must sign and has no key."""
    return Failure(
        "Every version must be signed (register.signing is required), and no key is named",
        where=where,
        remedy=REMEDY,
        exit_code=ExitCode.USAGE,
    )
