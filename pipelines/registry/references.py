"""Resolves references to a version: `7`, `champion`, `models:/wikigpt/7` or `models:/wikigpt@champion`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from components.download.corpora import MODEL
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.nearest import nearest
from components.shared.base.ranges import safe_repr
from components.shared.base.redact import redact
from components.shared.tracking import registry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

_URI = re.compile(r"models:/(?P<model>[^/@]+)(?:/(?P<version>[0-9]+)|@(?P<alias>[^/@]+))")
# The databases of MLflow cannot compare version numbers with more digits.
_DIGITS = 9


def resolve(client: MlflowClient, reference: str, model: str | None = None) -> ModelVersion:
    """Finds the version that a reference names. An alias is resolved here, once, and the version is used afterwards.

    Args:
        client: a client of the registry.
        reference: a version number, an alias (with or without `@`), or a `models:/` address.
        model: the name of the registered model; by default `model_name(client)`.

    Raises:
        Failure: there is no such model, version or alias. The message names the ones that exist.
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
    model = model_name(client, model)
    if re.fullmatch("[0-9]+", reference):
        return _numbered(client, model, reference.lstrip("0") or "0")
    return _aliased(client, model, reference.removeprefix("@"))


def model_name(client: MlflowClient, model: str | None = None) -> str:
    """Returns the given name if that model exists; by default `wikigpt`, or the only model.

    Raises:
        Failure: there is no model, or there are several and none is chosen.
    """
    known = sorted(found.name for found in client.search_registered_models(max_results=1000))
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


def is_default(client: MlflowClient, model: str) -> bool:
    """Whether `model_name(client)` is this model, which exists."""
    return model == MODEL or [found.name for found in client.search_registered_models(max_results=2)] == [model]


def _numbered(client: MlflowClient, model: str, number: str) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    fits_database = len(number) <= _DIGITS
    try:
        if fits_database:
            return client.get_model_version(model, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    own = [str(version.version) for version in registry.versions(client, model)]
    has = f"{model} has {', '.join(reversed(own[:10]))}" if own else f"{model} has no versions"
    others = [
        version.name
        for version in (
            client.search_model_versions(f"version_number={number}", max_results=1000) if fits_database else ()
        )
        if version.name != model
    ]
    hint = f"; for version {number} of {others[0]}, add --model {others[0]}" if others else ""
    raise _usage(
        f"{model} has no version {number if fits_database else safe_repr(number)}", f"name one that exists: {has}{hint}"
    )


def _aliased(client: MlflowClient, model: str, alias: str) -> ModelVersion:
    if found := registry.version_with_alias(client, model, alias):
        return found
    aliases = sorted(client.get_registered_model(model).aliases)
    has = (
        f"{model} has {', '.join(aliases)}" if aliases else f"{model} has none; `wikigpt promote VERSION` sets champion"
    )
    raise _usage(f"There is no alias {safe_repr(alias)} on {model}", f"name one that exists: {has}")


def _usage(what: str, remedy: str, where: str = "the version asked for") -> Failure:
    return Failure(what, where=redact(where), remedy=remedy, exit_code=ExitCode.USAGE)
