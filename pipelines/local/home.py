"""The home: one folder, `.wikigpt` by default, which holds everything that the command keeps on this machine.

layout            the version of this layout
mlflow.db         MLflow's database; mlartifacts/ contains what runs and models logged
.mlflow.db.lock   locked by the process that creates the database
store/            the store, unless --store names another
runs/<run>/       parameters.json, log.txt, result.json, the two reports, steps/ (outputs of the steps)
compile-cache/    the cache of torch.compile
reproductions/    a home for each version that is being reproduced, until it was compared
precision/        how fast each CPU multiplies in bfloat16; without its file, a CPU is measured again
serving/          versions/ has the folders of served versions; <port>/ the logs of `wikigpt serve` on that port
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.os_errors import os_failure
from components.shared.base.ranges import safe_repr
from components.shared.storage.files import PARTIAL, write_atomically
from components.shared.tracking.local_address import sqlite_address, sqlite_path
from pipelines.config.paths import absolute

LAYOUT = 1
_MARKER = "layout"


@dataclass(frozen=True)
class Home:
    """An opened home."""

    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def reproductions(self) -> Path:
        return self.root / "reproductions"

    @property
    def precision(self) -> Path:
        return self.root / "precision"

    @property
    def serving(self) -> Path:
        return self.root / "serving"

    @property
    def served_versions(self) -> Path:
        return self.serving / "versions"

    @property
    def database(self) -> Path:
        return self.root / "mlflow.db"

    @property
    def tracking_uri(self) -> str:
        return sqlite_address(self.database)

    def new_run(self, name: str | None = None) -> Path:
        """Creates the folder of a new run, by default named after the time and four random letters.

        Raises:
            Failure: it cannot be created.
        """
        folder = self.runs / (name or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise os_failure(error, folder) from error
        return folder


def open_home(root: Path) -> Home:
    """Opens a home, and creates it if it does not exist. If it was moved, its addresses are corrected.

    Raises:
        Failure: a later version wrote it, the folder is not a home, or it cannot be read or written.
    """
    root = absolute(root, "--home")
    marker = root / _MARKER
    try:
        layout = _layout(marker)
        if layout is None:
            # The marker may have been created by another command since; a killed one leaves a partial marker.
            if root.is_dir() and any(not _is_partial(path) for path in root.iterdir()) and not marker.exists():
                raise Failure(
                    "The folder is not empty, and it is not a home of wikigpt",
                    where=str(root),
                    remedy="give --home an empty or a new folder",
                    exit_code=ExitCode.USAGE,
                )
            write_atomically(marker, f"{LAYOUT}\n")
            layout = _layout(marker)
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(error, root) from error
    if layout != str(LAYOUT):
        raise Failure(
            f"The home has layout {safe_repr(layout)}, this version of wikigpt knows layout {LAYOUT}",
            where=str(marker),
            remedy="use the version that wrote it, or give --home another folder",
            exit_code=ExitCode.USAGE,
        )
    home = Home(root)
    _update_moved_addresses(home.database)
    return home


def existing_home(root: Path) -> Home:
    """Opens the home for a command that only reads.

    Raises:
        Failure: nothing has been run there.
    """
    root = absolute(root, "--home")
    try:
        layout = _layout(root / _MARKER)
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(error, root) from error
    if layout is None:
        raise Failure(
            "Nothing has been run here yet",
            where=str(root),
            remedy="start with `wikigpt run`, or name the right --home",
            exit_code=ExitCode.USAGE,
        )
    return open_home(root)


def tracking_uri(home: Home) -> str:
    """The MLflow that runs write to: the one that the environment names, or the database of the home."""
    return _named() or home.tracking_uri


def existing_tracking_uri(root: Path) -> str:
    """The MLflow that earlier runs wrote to. A home is needed only if the environment names no MLflow.

    Raises:
        Failure: nothing has been run there.
    """
    named = _named()
    if not named:
        return existing_home(root).tracking_uri
    database = sqlite_path(named)
    if database is not None and (database.parent / _MARKER).is_file():
        _update_moved_addresses(database.resolve())
    return named


def _named() -> str:
    """Returns the MLflow address from the environment; white space counts as no address."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip()


def _layout(marker: Path) -> str | None:
    try:
        return marker.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None


def _is_partial(path: Path) -> bool:
    return path.name.startswith(f".{_MARKER}.") and path.name.endswith(PARTIAL)


def _update_moved_addresses(database: Path) -> None:
    """Corrects addresses if the home was moved. The check takes a millisecond, so every command makes it."""
    if database.exists():
        from pipelines.local.relocation import update_moved_addresses

        if before := update_moved_addresses(database):
            print(f"The home was at {before}; MLflow's addresses now lead to {database.parent}.", file=sys.stderr)


def _unusable(error: OSError | UnicodeDecodeError, root: Path) -> Failure:
    if isinstance(error, OSError):
        return os_failure(error, root, what="The home cannot be used", exit_code=ExitCode.USAGE)
    return Failure(
        "The home's layout is not a number",
        where=str(root / _MARKER),
        remedy="choose another home by --home",
        exit_code=ExitCode.USAGE,
    )
