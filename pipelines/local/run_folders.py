"""The folders of runs in a home: where a step's artifact is, and which folders may be removed."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

from components.shared.base.failure import Failure
from pipelines.local.home import Home
from pipelines.registry.gc import Removal


def artifact(home: Home, run: str, step: str, name: str) -> Path:
    """The path of an artifact of a step of a run.

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


def plan_step_folders(home: Home, *, keep_for: float) -> list[Removal]:
    """Lists the outputs of steps of runs that ended more than `keep_for` seconds ago; logs, results and reports stay.

    The store holds everything in them that is needed again.
    """
    before = time.time() - keep_for
    folders = [
        result.parent / "steps"
        for result in sorted(home.runs.glob("*/result.json"))
        if result.stat().st_mtime < before and (result.parent / "steps").is_dir()
    ]
    reason = "its run is over, and it is old"
    return [
        Removal("step folder", str(folder), _size(folder), reason, partial(shutil.rmtree, folder)) for folder in folders
    ]


def plan_served_folders(home: Home, *, keep_for: float) -> list[Removal]:
    """Lists the exported versions that `wikigpt serve` has not used for `keep_for` seconds; it exports them again."""
    before = time.time() - keep_for
    return [
        Removal("served version", str(folder), _size(folder), "it is not served", partial(shutil.rmtree, folder))
        for folder in sorted(home.served_versions.glob("*"))
        if folder.stat().st_mtime < before
    ]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
