"""Making a version again from its lineage, and whether the same came of it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.download.ingredients import ingredients
from components.shared import registry
from components.shared.failure import Failure
from components.shared.fingerprint import differences, fingerprint, identity
from components.shared.storage.manifest import Manifest

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Lineage:
    """What it takes to make a version again.

    Attributes:
        model, version: in the registry.
        settings: of the run that made it, by section; the notice's are not among them.
        fingerprint: of its training.
        dataset_digest: of its corpus, by which the store knows it.
        weights_digest: of its weights, see `components.shared.registry.weights_digest`.
        commit: of the code, "" where it is not on record.
    """

    model: str
    version: str
    settings: dict[str, Any]
    fingerprint: str
    dataset_digest: str
    weights_digest: str
    commit: str


@dataclass(frozen=True)
class Comparison:
    """Whether a run made the same weights again, and a sentence that says so."""

    identical: bool
    sentence: str


def lineage_of(client: MlflowClient, version: ModelVersion) -> Lineage:
    """Reads the lineage of a version.

    Raises:
        Failure: it has none, an earlier or later version of wikigpt wrote it, or its run is gone.
    """
    tags, address = version.tags, f"models:/{version.name}/{version.version}"
    if tags.get(registry.SCHEMA) != registry.SCHEMA_VERSION:
        raise Failure(
            f"The version's lineage has schema {tags.get(registry.SCHEMA)!r}, this wikigpt reads"
            f" {registry.SCHEMA_VERSION!r}",
            where=address,
            remedy="use the wikigpt that registered it",
        )
    return Lineage(
        model=version.name,
        version=str(version.version),
        settings=_settings(client, version),
        fingerprint=tags[registry.FINGERPRINT],
        dataset_digest=tags[registry.DATASET_DIGEST],
        weights_digest=tags[registry.WEIGHTS_DIGEST],
        commit=tags.get(registry.COMMIT, ""),
    )


def check_reproducible(client: MlflowClient, lineage: Lineage) -> None:
    """Compares this code, these versions and the recorded settings with what made the version.

    Raises:
        Failure: they differ, so that equal weights cannot be expected; the commit to use is named.
    """
    ours = identity(lineage.dataset_digest, lineage.settings) | ingredients(lineage.settings)
    if fingerprint(ours) == lineage.fingerprint:
        return
    theirs = _recorded_identity(client, lineage)
    now = {name: registry.param_text(value) for name, value in ours.items()}
    unlike = differences(now, {name: value for name, value in theirs.items() if name in now})
    shown = "; ".join(unlike[:4]) + (f"; and {len(unlike) - 4} more" if len(unlike) > 4 else "")
    at = f"commit {lineage.commit}" if lineage.commit else "the commit that made it, which is not on record"
    raise Failure(
        f"Other code or versions made version {lineage.version} than are here: {shown or 'the fingerprints differ'}",
        where=f"models:/{lineage.model}/{lineage.version}",
        remedy=f"check out {at}, install its versions, and try again",
    )


def compare(lineage: Lineage, model: Manifest) -> Comparison:
    """Sets the weights that a run made against those of the version.

    Args:
        lineage: of the version.
        model: the manifest of the model that the run made.

    Raises:
        Failure: the corpus is another one now, so that there is nothing to compare.
    """
    if model.facts["fingerprint"] != lineage.fingerprint:
        raise Failure(
            f"The corpus {lineage.settings['download']['corpus']} is not what it was when version {lineage.version} was"
            f" made: its digest then was {lineage.dataset_digest[:12]}…",
            where=f"models:/{lineage.model}/{lineage.version}",
            remedy="bring the old text back to that address; what was trained now is registered without an alias",
        )
    seen = registry.weights_digest(model)
    name = f"version {lineage.version} of {lineage.model}"
    if seen == lineage.weights_digest:
        return Comparison(True, f"The weights are those of {name}, bit for bit (digest {seen[:12]}…).")
    return Comparison(
        False,
        f"The weights have digest {seen[:12]}…, those of {name} have {lineage.weights_digest[:12]}…: the same settings,"
        " code and versions, so the machines differ in numerics",
    )


def _settings(client: MlflowClient, version: ModelVersion) -> dict[str, Any]:
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            path = client.download_artifacts(version.run_id or "", registry.SETTINGS_FILE, folder)
        except (MlflowException, OSError) as error:
            raise Failure(
                f"The settings of the run are gone: {type(error).__name__}",
                where=f"MLflow run {version.run_id}, artifact {registry.SETTINGS_FILE}",
                remedy="make the model by `wikigpt run` with its profile; it cannot be made from its lineage",
            ) from error
        return json.loads(Path(path).read_text())


def _recorded_identity(client: MlflowClient, lineage: Lineage) -> dict[str, str]:
    """What the training was made of, as the logged model keeps it: flat names to texts."""
    source = client.get_model_version(lineage.model, lineage.version).source or ""
    while not source.startswith("models:/m-"):  # a copy names the version that it was copied from
        name, _, number = source.removeprefix("models:/").rpartition("/")
        source = client.get_model_version(name, number).source or ""
    return dict(client.get_logged_model(source.removeprefix("models:/")).params)
