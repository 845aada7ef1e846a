"""Corrects the addresses in a home that was moved: MLflow stores absolute addresses of artifacts."""

from __future__ import annotations

import os
from pathlib import Path

from components.shared.base.failure import Failure

# The columns of MLflow's tables that hold addresses of artifacts.
_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def update_moved_addresses(database: Path) -> Path | None:
    """Corrects the addresses in the database of a home that was moved, in one transaction.

    Args:
        database: the database of the home, as a resolved path. It need not exist.

    Returns:
        The earlier folder of the home, or None if nothing was changed.

    Raises:
        Failure: the home was moved, and its database is locked or cannot be written.
    """
    from components.shared.tracking.local_address import folder_address, folder_path
    from components.shared.tracking.mlflow_database import ARTIFACTS, State, examine
    from components.shared.tracking.mlflow_schema import opened

    if examine(database) is not State.USABLE:
        return None
    here = database.parent / ARTIFACTS
    with opened(database) as connection:
        locations = [row[0] for row in connection.execute("SELECT DISTINCT artifact_location FROM experiments")]
        bases = {base for location in locations if (base := _base(folder_path(location or ""), ARTIFACTS))}
        earlier = sorted(bases - {here})
        if not earlier:
            return None
        if not (os.access(database, os.W_OK) and os.access(database.parent, os.W_OK)):
            raise Failure(
                f"The home was moved here from {earlier[0].parent}, but being read-only it keeps the old addresses",
                where=str(database),
                remedy="run one command where it can be written, or move it back",
            )
        connection.execute("BEGIN IMMEDIATE")
        for base in earlier:
            for before in (folder_address(base), str(base)):
                for table, column in _COLUMNS:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                        f" WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        (folder_address(here), len(before) + 1, before, len(before) + 1, f"{before}/"),
                    )
    return earlier[0].parent


def _base(location: Path | None, name: str) -> Path | None:
    """The folder of all artifacts, from the artifact location of an experiment."""
    if location is None:
        return None
    return next((folder for folder in (location, location.parent) if folder.name == name), None)
