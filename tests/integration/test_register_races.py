"""Concurrent runs, each in a separate process, register one after another on a real database; some of them die.

The interleavings are explored in tests/interleavings; here only the model is in memory.
"""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import postgres  # noqa: F401
from tests.registry import judge_of, make_version

_FORK = multiprocessing.get_context("fork")
_LEVELS = (4.5, 4.0, 4.25, 5.0)


def in_child(function: Callable[[], Any]) -> Any:
    """Runs a function in a separate process: this one never opens the database, which a fork could not share."""
    ours, theirs = _FORK.Pipe()
    child = _FORK.Process(target=lambda: theirs.send(json.dumps(function())))
    child.start()
    theirs.close()
    result = json.loads(ours.recv())
    child.join()
    return result


def enter(uri: str, store: str, model: str, level: float, dies: bool) -> None:
    """Registers a version of some level (nats per word) and places it; or dies when its alias is to be moved."""
    from mlflow import MlflowClient

    from components.register.model_lock import fenced, model_lock
    from components.register.promotion import decide_alias
    from components.shared.runtime.liveness import heartbeat
    from components.shared.storage.store import open_store

    opened, run = open_store(store), f"run-{level}"
    client = MlflowClient(uri)
    if dies:
        client.set_registered_model_alias = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
    with heartbeat(opened, run), model_lock(opened, model).held(run, patience=300) as held:
        locked = fenced(client, held.check)
        decide_alias(locked, model, make_version(locked, model, level), judge_of(level))


def outcome(uri: str, model: str) -> dict[str, Any]:
    """Levels of the champion and of all versions."""
    from mlflow import MlflowClient

    from components.shared.tracking import registry

    client = MlflowClient(uri)
    champion = registry.version_with_alias(client, model, "champion")
    levels = [float(version.tags["wikigpt.nll_per_word"]) for version in registry.versions(client, model)]
    return {"champion": float(champion.tags["wikigpt.nll_per_word"]) if champion else None, "levels": sorted(levels)}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return request.getfixturevalue("postgres")
    shutil.copyfile(request.getfixturevalue("empty_database"), tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.mark.slow
@pytest.mark.parametrize("dies", [None, 4.0, 4.5])
def test_the_best_version_is_champion_whichever_run_is_first_or_dies(
    database: str, tmp_path: Path, dies: float | None
) -> None:
    model = f"wikigpt-{dies}"
    assert in_child(lambda: outcome(database, model)) == {"champion": None, "levels": []}  # and the tables are there
    places = (database, str(tmp_path / "store"), model)
    runs = {level: _FORK.Process(target=enter, args=(*places, level, level == dies)) for level in _LEVELS}
    for run in runs.values():
        run.start()
    for run in runs.values():
        run.join()
    killed = {level for level, run in runs.items() if run.exitcode == -signal.SIGKILL}
    assert all(run.exitcode == 0 for level, run in runs.items() if level not in killed)
    seen = in_child(lambda: outcome(database, model))
    assert seen["levels"] == sorted(_LEVELS)
    # If the last run was killed, no later run finishes its move.
    assert seen["champion"] == 4.0 or (killed == {4.0} and seen["champion"] == 4.25)
