"""Resolves references to a version: `7`, `champion`, `models:/wikigpt/7` or `models:/wikigpt@champion`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, overload

from components.download.corpora import MODEL
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.nearest import nearest
from components.shared.base.ranges import safe_repr
from components.shared.base.redact import redact
from components.shared.tracking import registry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

_URI = re.compile(r"models:/(?P<model>[^/@]+)(?:/(?P<version>[0-9]+)|@(?P<alias>[^/@]+))")
_LONG = 10  # digits of a number that a message shortens


@overload
def resolve(client: MlflowClient, reference: str, model: str | None = None) -> ModelVersion: ...


@overload
def resolve(client: RegistryReader, reference: str, model: str | None = None) -> AnyVersion: ...


def resolve(client: RegistryReader, reference: str, model: str | None = None) -> AnyVersion:
    """Finds the version that a reference names. An alias is resolved here, once, and the version is used afterwards.

    Args:
        client: a client of the registry, or the database.
        reference: a version number, an alias (with or without `@`), or a `models:/` address.
        model: the name of the registered model; by default `model_name(client)`.

    Raises:
        Failure: there is no such model, version or alias. The message names the ones that exist.
    """
    name, of_model = reference_of(client, reference, model)
    if re.fullmatch("[0-9]+", of_model):
        return _numbered(client, name, of_model.lstrip("0") or "0")
    return _aliased(client, name, of_model)


def reference_of(client: RegistryReader, reference: str, model: str | None = None) -> tuple[str, str]:
    """The registered model that a reference names, and the number or the alias in it, see `resolve`.

    Raises:
        Failure: the reference cannot be read, or there is no such model.
    """
    if reference.startswith("models:"):
        parts = _URI.fullmatch(reference)
        if parts is None:
            raise _usage(
                f"{reference} is not a reference to a version", "write models:/NAME/NUMBER or models:/NAME@ALIAS"
            )
        if model is not None and parts["model"] != model:
            raise _usage(
                f"{reference} is a version of {parts['model']}, not of {model}", f"leave out --model, or name {model}'s"
            )
        model, reference = parts["model"], parts["version"] or parts["alias"]
    return model_name(client, model), reference.removeprefix("@")


def model_name(client: RegistryReader, model: str | None = None) -> str:
    """Returns the given name if that model exists; by default `wikigpt`, or the only model.

    Raises:
        Failure: there is no model, or there are several and none is chosen.
    """
    known = sorted(found.name for found in registry.registered_models(client))
    if not known:
        raise Failure(
            "The registry has no model",
            where=client.tracking_uri,
            remedy="train one by `wikigpt run`, then try again",
        )
    if model is not None and model not in known:
        remedy = f"did you mean {nearest(model, known)}? The models are {', '.join(known)}"
        raise _usage(f"There is no model {safe_repr(model)}", remedy)
    if model is None and MODEL not in known and len(known) > 1:
        raise _usage("Several models are registered", f"choose one by --model: {', '.join(known)}", client.tracking_uri)
    return model or (MODEL if MODEL in known else known[0])


def is_default(client: RegistryReader, model: str) -> bool:
    """Whether `model_name(client)` is this model, which exists."""
    return model == MODEL or [found.name for found in registry.registered_models(client)] == [model]


def _numbered(client: RegistryReader, model: str, number: str) -> AnyVersion:
    own = {str(version.version): version for version in registry.all_versions(client, model)}
    if number in own:
        return own[number]
    has = f"{model} has {', '.join([*own][:10][::-1])}" if own else f"{model} has no versions"
    others = [
        found.name
        for found in registry.registered_models(client)
        if any(str(version.version) == number for version in registry.all_versions(client, found.name))
    ]
    hint = f"; for version {number} of {others[0]}, add --model {others[0]}" if others else ""
    shown = number if len(number) < _LONG else safe_repr(number)
    raise _usage(f"{model} has no version {shown}", f"name one that exists: {has}{hint}")


def _aliased(client: RegistryReader, model: str, alias: str) -> AnyVersion:
    (aliases,) = (found.aliases for found in registry.registered_models(client) if found.name == model)
    if alias in aliases:
        return _numbered(client, model, str(aliases[alias]))
    has = (
        f"{model} has {', '.join(sorted(aliases))}"
        if aliases
        else f"{model} has none; `wikigpt promote VERSION` sets champion"
    )
    raise _usage(f"There is no alias {safe_repr(alias)} on {model}", f"name one that exists: {has}")


def _usage(what: str, remedy: str, where: str = "the version asked for") -> Failure:
    return Failure(what, where=redact(where), remedy=remedy, exit_code=ExitCode.USAGE)
