"""Reproduces a version from its lineage, and compares the weights.

The training runs in a separate home with its own store and MLflow, by the steps up to the training. Its results reach
neither the registry nor the store of the project.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.download.corpora import RESERVED
from components.shared.base.address import is_on_hub, is_registered
from components.shared.base.failure import Failure
from components.shared.base.model_address import ModelAddress
from components.shared.base.renamed_keys import with_new_keys
from components.shared.model.pretrained import KIND as PRETRAINED
from components.shared.model.registered_model import recorded_identity
from components.shared.model.registered_version import fetch_version
from components.shared.reuse.external_inputs import external_input_digests
from components.shared.reuse.keys import deciding_numerics, differences, request_of
from components.shared.reuse.trained import KIND as MODEL
from components.shared.reuse.trained import weights_digest
from components.shared.storage.manifest import Manifest
from components.shared.storage.store import Store, open_store
from components.shared.tracking import registry
from pipelines.local.home import Home, open_home

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Lineage:
    """The facts that are needed to reproduce a version.

    Attributes:
        model, version: the name of the registered model and the version.
        settings: the settings of the run that created it, by section, without those of notify.
        reuse_key: the reuse key of that run.
        dataset_digest: the digest of its corpus, which is its name in the store.
        weights_digest: the digest of its weights, see `components.shared.reuse.trained.weights_digest`.
        numerics: the numerics of its training.
        commit: the commit of the code; "" if it was not recorded.
    """

    model: str
    version: str
    settings: dict[str, Any]
    reuse_key: str
    dataset_digest: str
    weights_digest: str
    numerics: dict[str, Any]
    commit: str


@dataclass(frozen=True)
class Comparison:
    """Whether a run reproduced the weights, and a sentence that says so."""

    identical: bool
    sentence: str


def lineage_of(client: MlflowClient, version: ModelVersion) -> Lineage:
    """Reads the lineage of a version.

    Raises:
        Failure: it has none, another version of wikigpt wrote it, or its run was deleted.
    """
    tags, address = version.tags, f"models:/{version.name}/{version.version}"
    if tags.get(registry.SCHEMA) != registry.SCHEMA_VERSION:
        raise Failure(
            f"The version's lineage has schema {tags.get(registry.SCHEMA)!r}, this wikigpt reads"
            f" {registry.SCHEMA_VERSION!r}",
            where=address,
            remedy=f"check out {_commit(tags.get(registry.COMMIT, ''))}, and reproduce it with that wikigpt; this one"
            " promotes, exports and serves it",
        )
    return Lineage(
        model=version.name,
        version=str(version.version),
        settings=_settings(client, version),
        reuse_key=tags[registry.REUSE_KEY],
        dataset_digest=tags[registry.DATASET_DIGEST],
        weights_digest=tags[registry.WEIGHTS_DIGEST],
        numerics=json.loads(tags[registry.NUMERICS]),
        commit=tags.get(registry.COMMIT, ""),
    )


def check_reproducible(client: MlflowClient, lineage: Lineage) -> None:
    """Compares this code, these versions and the recorded settings with what made the version.

    Raises:
        Failure: they differ, so that equal weights cannot be expected; the commit to use is named.
    """
    ours = request_of(lineage.dataset_digest, lineage.settings, external_input_digests(lineage.settings))
    if ours.model_key == lineage.reuse_key:
        return
    theirs = recorded_identity(client, client.get_model_version(lineage.model, lineage.version))
    now = {name: registry.param_text(value) for name, value in ours.key_parts.items()}
    unlike = differences(now, {name: value for name, value in theirs.items() if name in now})
    shown = "; ".join(unlike[:4]) + (f"; and {len(unlike) - 4} more" if len(unlike) > 4 else "")
    raise Failure(
        f"Other code or versions made version {lineage.version} than are here: {shown or 'the reuse keys differ'}",
        where=f"models:/{lineage.model}/{lineage.version}",
        remedy=f"check out {_commit(lineage.commit)}, install its versions, and try again",
    )


def reproduction_home(home: Home, lineage: Lineage) -> Home:
    """Opens the home in which a version is reproduced. If a reproduction was interrupted, it is resumed there."""
    return open_home(home.reproductions / lineage.weights_digest)


def copy_inputs(store: Store, own: Home, lineage: Lineage, registry_uri: str | None = None) -> dict[str, Any]:
    """Copies the inputs of a reproduction from the store of the project, but no results.

    Args:
        store: the store of the project, which is only read.
        own: the home of the reproduction.
        lineage: the lineage of the version.
        registry_uri: the address of the registry, for versions that are no longer in the store.

    Returns:
        The settings of the version's run, by section. A text that is not a release of a known corpus is read from the
        store if that has it: the text at its address may have changed, and credentials for it are not recorded.
    """
    settings, target = dict(lineage.settings), open_store(str(own.store))
    if settings["download"]["corpus"] in RESERVED:
        _copy(store, target, "corpus", lineage.dataset_digest)
    elif store.fetch("corpus", lineage.dataset_digest, own.root / "corpus"):
        settings["download"] = {**settings["download"], "corpus": str(own.root / "corpus"), "sha256": None}
    pointers = (settings["tokenize"].get("tokenizer"), settings["train"].get("pretrained"))
    for address in pointers:
        if address and is_on_hub(address):
            for name in store.names(PRETRAINED, f"{address}@"):
                _copy(store, target, PRETRAINED, name)
    for address in (*pointers, *(settings["train"].get("distill") or ())):
        if address and is_registered(address):
            _copy_version(store, target, ModelAddress.parse(address), registry_uri)
    return settings


def _copy(store: Store, target: Store, kind: str, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="wikigpt-reproduce-") as folder:
        if store.fetch(kind, name, Path(folder)):
            target.publish(Path(folder), kind, name)


def _copy_version(store: Store, target: Store, version: ModelAddress, registry_uri: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="wikigpt-reproduce-") as scratch:
        fetch_version(version, folder := Path(scratch) / "version", store, registry_uri)
        target.publish(folder, MODEL, version.digest)


def compare(lineage: Lineage, model: Manifest) -> Comparison:
    """Compares the weights of a run with those of the version.

    Args:
        lineage: the lineage of the version.
        model: the manifest of the model of the run.

    Raises:
        Failure: the corpus has changed, so there is nothing to compare.
    """
    if model.metadata["reuse_key"] != lineage.reuse_key:
        raise Failure(
            f"The corpus {lineage.settings['download']['corpus']} is not what it was when version {lineage.version} was"
            f" made: its digest then was {lineage.dataset_digest[:12]}…",
            where=f"models:/{lineage.model}/{lineage.version}",
            remedy="restore the old text at that address or in the store, and try again",
        )
    if model.metadata.get("numerics_changed"):
        raise Failure(
            "The training was resumed with other numerics than it started with, so the weights cannot be compared",
            where=f"models:/{lineage.model}/{lineage.version}",
            remedy="try again; the training starts from the beginning",
        )
    seen = weights_digest(model)
    name = f"version {lineage.version} of {lineage.model}"
    if seen == lineage.weights_digest:
        return Comparison(True, f"The weights are those of {name}, bit for bit (digest {seen[:12]}…).")
    unlike = differences(deciding_numerics(model.metadata["numerics"]), deciding_numerics(lineage.numerics))
    why = f"numerics differ: {'; '.join(unlike)}" if unlike else "with the same settings, code, versions and numerics"
    return Comparison(
        False,
        f"The weights have digest {seen[:12]}…, those of {name} have {lineage.weights_digest[:12]}…, {why}",
    )


def _commit(commit: str) -> str:
    return f"commit {commit}" if commit else "the commit that created it, which was not recorded"


def _settings(client: MlflowClient, version: ModelVersion) -> dict[str, Any]:
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(version.run_id or "", registry.SETTINGS_FILE, folder)
        except (MlflowException, OSError) as error:
            raise Failure(
                f"The settings of the run cannot be read: {type(error).__name__}",
                where=f"MLflow run {version.run_id}, artifact {registry.SETTINGS_FILE}",
                remedy="train the model by `wikigpt run` with its profile; it cannot be reproduced from its lineage",
            ) from error
        return with_new_keys(json.loads(Path(path).read_text(encoding="utf-8")), path)
