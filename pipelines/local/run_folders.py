"""The folders of runs in a home: where a step's artifact stands, and which may go."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from components.shared.base.failure import Failure
from pipelines.local.home import Home


@dataclass(frozen=True)
class Steps:
    """What the steps of an ended run handed on; the store holds all of it that is needed again."""

    path: Path
    size: int


def artifact(home: Home, run: str, step: str, name: str) -> Path:
    """Where a step of a run left an artifact.

    Raises:
        Failure: the step did not run, or its folder was removed since.
    """
    for path in (home.runs / run / "steps").glob(f"*/{step}/{name}"):
        return path
    raise Failure(
        f"The run left no {name} of the step {step}",
        where=str(home.runs / run),
        remedy="run again",
    )


def old_step_folders(home: Home, *, keep_for: float) -> list[Steps]:
    """Steps of runs that ended more than `keep_for` seconds ago; logs, results and reports stay."""
    before = time.time() - keep_for
    return [
        Steps(path=result.parent / "steps", size=_size(result.parent / "steps"))
        for result in sorted(home.runs.glob("*/result.json"))
        if result.stat().st_mtime < before and (result.parent / "steps").is_dir()
    ]


def remove_steps(folders: list[Steps]) -> None:
    """Removes them."""
    for folder in folders:
        shutil.rmtree(folder.path)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
