"""`wikigpt verify` and `sign`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from components.shared.base.failure import ExitCode, Failure
from pipelines.cli import options
from pipelines.cli.options import HomeFolder, Json
from pipelines.cli.registry import Model, Reference, reader_of, registry_of
from pipelines.cli.screen import print_json, print_to_stderr


def verify(
    reference: Reference,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", help="The public key in PEM; by default the one that WIKIGPT_PUBLIC_KEY names."),
    ] = None,
    model: Model = None,
    home: HomeFolder = options.DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Compare a version with its signature: files, provenance, card, completions and evaluation."""
    from components.shared.signing.keys import read_public_key
    from pipelines.registry import verification
    from pipelines.registry.references import resolve

    key = read_public_key(public_key.expanduser()) if public_key else None
    with reader_of(home) as client:
        version = resolve(client, reference, model)
        result = verification.verify(client, version, key)
    if as_json:
        print_json(result)
    else:
        for check in result.checks:
            typer.echo(f"{'ok' if check.ok else 'FAILED':6} {check.name}: {check.seen}")
    if not result.verified:
        raise typer.Exit(int(ExitCode.FAILED))


def sign(
    reference: Reference,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            envvar="WIKIGPT_SIGNING_KEY",
            help="The private key: the path of a PEM file, or a `pkcs11:` URI.",
        ),
    ] = None,
    model: Model = None,
    home: HomeFolder = options.DEFAULT_HOME,
) -> None:
    """Sign a version that is registered already, as of an earlier release or by a key that is replaced."""
    from components.shared.signing.keys import open_signing_key, problem_of
    from pipelines.registry import verification
    from pipelines.registry.references import resolve

    if key is None or (problem := problem_of(key)):
        raise Failure(
            "No signing key is named" if key is None else f"--key {problem}",
            where="--key or WIKIGPT_SIGNING_KEY",
            remedy="name the path of a key file or a pkcs11: URI",
            exit_code=ExitCode.USAGE,
        )
    opened = open_signing_key(key)
    with registry_of(home) as client:
        version = resolve(client, reference, model)
        verification.sign(client, version, opened, print_to_stderr)
    typer.echo(f"Version {version.version} of {version.name} is signed by the key {opened.public.fingerprint}.")
