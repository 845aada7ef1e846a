"""Registered versions as inputs of a training: an address is pinned to the digest of its weights, and fetched by it.

Pinned addresses and what they mean are described in `components.shared.base.model_address`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.model_address import ModelAddress
from components.shared.base.nearest import nearest
from components.shared.base.renamed_keys import with_new_names
from components.shared.model.registered_model import download_verified, recorded_identity
from components.shared.reuse.trained import fetch_model
from components.shared.storage.store import Store
from components.shared.tracking import registry
from components.shared.tracking.run import PATIENCE, connect, translate_mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

# The value of a setting with which a run needs no version, for the remedy where there is none yet.
_WITHOUT = {"train.pretrained": "null", "tokenize.tokenizer": "bpe", "train.distill": "[]"}


def find_version(reader: RegistryReader, address: ModelAddress, setting: str) -> AnyVersion:
    """The version that an address names now.

    Args:
        reader: the registry.
        address: by the number or by an alias.
        setting: the setting that holds the address, for the message.

    Raises:
        Failure: there is no such model, alias or version.
    """
    models = {model.name: model.aliases for model in registry.registered_models(reader)}
    first = f"{setting}={_WITHOUT[setting]}"
    if address.name not in models:
        hint = nearest(address.name, models) if models else None
        raise _usage(
            f"There is no registered model {address.name}",
            address,
            f"{f'did you mean {hint}? Or ' if hint else ''}train its first version with {first}",
        )
    number = str(models[address.name].get(address.alias, "")) if address.alias else address.version
    if not number:
        raise _usage(
            f"No version of {address.name} has the alias {address.alias}",
            address,
            f"set it by `wikigpt promote`, or train the first version with {first}",
        )
    for version in registry.all_versions(reader, address.name):
        if str(version.version) == number:
            return version
    raise _usage(
        f"{address.name} has no version {number}; it was deleted, or never existed",
        address,
        f"name one that `wikigpt models` lists in {setting}",
    )


def pin_version(client: MlflowClient, text: str, setting: str) -> ModelAddress:
    """The address with the number and the weights digest of the version that it names now.

    An address that is pinned already is returned unchanged, and the registry is not asked.

    Args:
        client: a client of the registry.
        text: the address in the setting.
        setting: the name of the setting, for messages.

    Raises:
        Failure: there is no such version, or its weights alone are not its model, or their digest is not recorded.
    """
    address = ModelAddress.parse(text)
    if address.digest:
        return address
    with translate_mlflow_errors(client):
        version = find_version(client, address, setting)
        pinned = ModelAddress(address.name, str(version.version), digest=version.tags.get(registry.WEIGHTS_DIGEST, ""))
        if not pinned.digest:
            raise _usage(
                f"Version {pinned.version} of {pinned.name} has no tag {registry.WEIGHTS_DIGEST}",
                address,
                "name a version that this project registered, or a folder with its weights",
            )
        _refuse_prefix(with_new_names(recorded_identity(client, version)).get("train.adapter") == "prefix", pinned)
    return pinned


def fetch_version(
    address: ModelAddress, folder: Path, store: Store | None = None, tracking_uri: str | None = None
) -> dict[str, Any]:
    """Downloads the model and the tokenizer of a pinned version: from the store, else from MLflow, always verified.

    Args:
        address: the pinned address.
        folder: a new folder, which is a folder of kind model afterwards.
        store: the store.
        tracking_uri: the address of MLflow; by default its own variable.

    Returns:
        The metadata of the model, with at least its `identity` and `tokenizer_digest`.

    Raises:
        Failure: neither has the version, MLflow cannot be reached, or the weights have another digest.
    """
    if not address.digest:
        raise _usage("The address has no digest of the weights", address, "run the step download, which adds it")
    if store and (model := fetch_model(store, address.digest, folder)):
        _refuse_prefix(not model.metadata.get("merged", True), address)
        return model.metadata
    client = connect(tracking_uri, patience=PATIENCE)
    with translate_mlflow_errors(client):
        version = find_version(client, replace(address, digest=""), "train.pretrained")
        if (recorded := version.tags.get(registry.WEIGHTS_DIGEST)) != address.digest:
            raise _usage(
                f"Version {address.version} of {address.name} has the weights {str(recorded)[:12]}…, and the run began"
                f" with {address.digest[:12]}…",
                address,
                "start a new run",
            )
        return download_verified(client, version, folder)


def _refuse_prefix(is_prefix: bool, address: ModelAddress) -> None:
    if is_prefix:
        raise _usage(
            f"Version {address.version} of {address.name} was trained with a prefix, which is not part of its weights",
            address,
            "name a version that was trained without one",
        )


def _usage(what: str, address: ModelAddress, remedy: str) -> Failure:
    return Failure(what, where=str(replace(address, digest="")), remedy=remedy, exit_code=ExitCode.USAGE)
