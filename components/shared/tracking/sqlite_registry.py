"""Reads the registry from MLflow's database on this machine, without MLflow.

Importing MLflow takes two seconds and these queries a millisecond. The schema is that of the installed MLflow, because
`mlflow_database.examine` refuses any other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.tracking.local_address import folder_path, sqlite_address, sqlite_path
from components.shared.tracking.mlflow_database import State, examine
from components.shared.tracking.mlflow_schema import opened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# With these variables, MLflow reads another registry than the one that its tracking address names.
_ELSEWHERE = {"MLFLOW_REGISTRY_URI", "MLFLOW_ENABLE_WORKSPACES", "MLFLOW_WORKSPACE"}
# MLflow's registry of models leaves out prompts, which are in the same tables, and deleted versions.
_MODELS = """
    SELECT name FROM registered_models m WHERE workspace = 'default' AND NOT EXISTS (
        SELECT 1 FROM registered_model_tags t
        WHERE t.workspace = m.workspace AND t.name = m.name AND t.key = 'mlflow.prompt.is_prompt' AND t.value = 'true')
    ORDER BY name"""
_MODEL_TAGS = "SELECT key, value FROM registered_model_tags WHERE workspace = 'default' AND name = ?"
_ALIASES = "SELECT alias, version FROM registered_model_aliases WHERE workspace = 'default' AND name = ?"
_VERSIONS = """
    SELECT version, creation_time, run_id, source, description, storage_location FROM model_versions
    WHERE workspace = 'default' AND name = ? AND current_stage != 'Deleted_Internal' ORDER BY version DESC"""
_TAGS = "SELECT key, value FROM model_version_tags WHERE workspace = 'default' AND name = ? AND version = ?"
_ARTIFACTS = "SELECT artifact_uri FROM runs WHERE run_uuid = ?"


@dataclass(frozen=True)
class LocalModel:
    """A registered model, with the attributes that MLflow's entity has."""

    name: str
    aliases: dict[str, str]
    tags: dict[str, str]


@dataclass(frozen=True)
class LocalVersion:
    """A version of a registered model, with the attributes that MLflow's entity has, and the address of its files."""

    name: str
    version: str
    creation_timestamp: int
    run_id: str
    source: str
    description: str
    tags: dict[str, str]
    location: str

    @property
    def folder(self) -> Path | None:
        """The folder of its files; None if they are not on this machine."""
        return folder_path(self.location)


@dataclass(frozen=True)
class SqliteRegistry:
    """The registry in a database on this machine."""

    path: Path

    @property
    def tracking_uri(self) -> str:
        return sqlite_address(self.path)

    def models(self) -> list[LocalModel]:
        """All registered models."""
        with opened(self.path) as database:
            return [
                LocalModel(
                    name,
                    aliases={alias: str(version) for alias, version in database.execute(_ALIASES, (name,))},
                    tags=dict(database.execute(_MODEL_TAGS, (name,))),
                )
                for (name,) in database.execute(_MODELS).fetchall()
            ]

    def versions(self, model: str) -> list[LocalVersion]:
        """The versions of a model, newest first; empty if it does not exist."""
        with opened(self.path) as database:
            return [
                LocalVersion(
                    name=model,
                    version=str(number),
                    creation_timestamp=created,
                    run_id=run or "",
                    source=source or "",
                    description=description or "",
                    tags=dict(database.execute(_TAGS, (model, number))),
                    location=location or source or "",
                )
                for number, created, run, source, description, location in database.execute(_VERSIONS, (model,))
            ]

    def artifacts(self, run: str) -> Path | None:
        """The folder of the artifacts of a run; None if there is no such run, or they are not on this machine."""
        with opened(self.path) as database:
            found = database.execute(_ARTIFACTS, (run,)).fetchone()
        return folder_path(found[0]) if found and found[0] else None


if TYPE_CHECKING:
    RegistryReader = MlflowClient | SqliteRegistry
    AnyVersion = ModelVersion | LocalVersion


def sqlite_registry(uri: str) -> SqliteRegistry | None:
    """The registry at an address; None if it is not a database of MLflow on this machine, and must be asked by MLflow.

    Raises:
        Failure: see `components.shared.tracking.mlflow_database.examine`.
    """
    path = sqlite_path(uri)
    if path is None or _ELSEWHERE & os.environ.keys() or examine(path) is not State.USABLE:
        return None
    with opened(path) as database:
        ours = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'registered_models'").fetchone()
    return SqliteRegistry(path) if ours else None
