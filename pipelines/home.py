"""The home of a laptop's runs: everything that the command keeps stands under one folder, `.wikigpt` by default.

layout            the version of this layout
mlflow.db         MLflow's database; mlartifacts/ beside it holds what runs and models logged
store/            the store, unless --store names another
runs/<run>/       settings.json, log.txt, result.json, the two reports, steps/ (what the steps handed on)
compile-cache/    what torch.compile made
reproductions/    a home for each version that is being made again, until it was compared
precision/        how fast each CPU of this home multiplies in bfloat16; remove a file to have its CPU measured again
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from components.shared.failure import ExitCode, Failure
from components.shared.storage.files import write_atomically

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
    def tracking_uri(self) -> str:
        return f"sqlite:///{self.root / 'mlflow.db'}"

    def new_run(self) -> Path:
        """The folder of a new run, named by the time and four random letters."""
        folder = self.runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        folder.mkdir(parents=True)
        return folder


def open_home(root: Path) -> Home:
    """Opens a home, made where it does not exist.

    Raises:
        Failure: it was written by a later version, is not a home, or cannot be written.
    """
    root = root.expanduser().resolve()
    marker = root / _MARKER
    if not marker.exists():
        if root.exists() and any(root.iterdir()):
            raise Failure(
                "The folder is not empty and no home of wikigpt",
                where=str(root),
                remedy="give --home an empty or a new folder",
                exit_code=ExitCode.USAGE,
            )
        write_atomically(marker, f"{LAYOUT}\n")
    seen = marker.read_text().strip()
    if seen != str(LAYOUT):
        raise Failure(
            f"The home has layout {seen!r}, this version of wikigpt knows layout {LAYOUT}",
            where=str(marker),
            remedy="use the version that wrote it, or give --home another folder",
            exit_code=ExitCode.USAGE,
        )
    return Home(root)


def existing_home(root: Path) -> Home:
    """The home of a command that only reads.

    Raises:
        Failure: nothing was ever run there.
    """
    if not (root.expanduser() / _MARKER).is_file():
        raise Failure(
            "Nothing was run here yet",
            where=str(root.expanduser().resolve()),
            remedy="start with `wikigpt run`, or name the right --home",
            exit_code=ExitCode.USAGE,
        )
    return open_home(root)


def tracking_uri(home: Home) -> str:
    """The MLflow that runs write to: the one that the environment names, else the home's own database."""
    return os.environ.get("MLFLOW_TRACKING_URI") or home.tracking_uri


def recorded_in(root: Path) -> str:
    """The MLflow that holds what was run; a home is needed only where the environment names none.

    Raises:
        Failure: nothing was ever run there.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or existing_home(root).tracking_uri
