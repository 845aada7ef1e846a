"""Overlapping runs leave the alias on the best approved version, whatever the order of their calls.

Each run is a process of its own that asks before every call to the registry; who goes next is drawn from a seed, so an
order that fails can be seen again.
"""

import json
import multiprocessing
import random
import shutil
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest

from tests.postgres import postgres  # noqa: F401
from tests.registry import empty_database, judge_of, make_version  # noqa: F401

_FORK = multiprocessing.get_context("fork")


class InTurn:
    """A client each of whose calls waits for its turn."""

    def __init__(self, client: Any, turns: Connection):
        self._client, self._turns = client, turns

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            self._turns.send("ready")
            self._turns.recv()
            return value(*args, **kwargs)

        return call


def in_child(function: Callable[[], Any]) -> Any:
    """Runs a function in a process of its own: this one never opens the database, which no fork could share."""
    ours, theirs = _FORK.Pipe()
    child = _FORK.Process(target=lambda: theirs.send(json.dumps(function())))
    child.start()
    theirs.close()
    result = json.loads(ours.recv())
    child.join()
    return result


def run_interleaved(uri: str, model: str, levels: dict[str, float], seed: int) -> None:
    """Places versions by processes at once; levels: version to nats per word."""
    draw = random.Random(seed)
    waiting: dict[Connection, Any] = {}
    for version, level in levels.items():
        ours, theirs = _FORK.Pipe()
        child = _FORK.Process(target=_place, args=(uri, model, version, level, theirs))
        child.start()
        theirs.close()
        waiting[ours] = child
    ready: list[Connection] = []
    while waiting:
        # Everybody is asked for again before one is drawn, so that the order depends on the seed alone.
        for connection in [c for c in waiting if c not in ready]:
            wait([connection])
            try:
                assert connection.recv() == "ready"
                ready.append(connection)
            except EOFError:
                child = waiting.pop(connection)
                child.join()
                assert child.exitcode == 0
        if ready:
            chosen = ready.pop(draw.randrange(len(ready)))
            chosen.send("go")


def _place(uri: str, model: str, version: str, level: float, turns: Connection) -> None:
    from mlflow import MlflowClient

    from components.register.promotion import place

    place(InTurn(MlflowClient(uri), turns), model, version, judge_of(level))  # type: ignore[arg-type]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return request.getfixturevalue("postgres")
    shutil.copyfile(request.getfixturevalue("empty_database"), tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.mark.slow
def test_the_best_approved_version_is_champion_whatever_the_order(database: str) -> None:
    """A champion at 6 nats a word, then three runs at once, two of them nearer to each other than the margin."""
    models = [f"model-{seed}" for seed in range(8)]
    levels = [4.5, 4.001, 4.0]

    def prepare() -> list[dict[str, float]]:
        from mlflow import MlflowClient

        from components.register.promotion import place

        client = MlflowClient(database)
        for model in models:
            place(client, model, make_version(client, model, 6.0), judge_of(6.0))
        return [{make_version(client, model, level): level for level in levels} for model in models]

    def look() -> list[dict[str, Any]]:
        from mlflow import MlflowClient

        return [outcome(MlflowClient(database), model) for model in models]

    for seed, versions in enumerate(in_child(prepare)):
        run_interleaved(database, models[seed], versions, seed)
    results = in_child(look)
    for seed, result in enumerate(results):
        assert result["champion"] == min(result["promoted"]) < 4.5, f"seed {seed}"
        assert result["open"] == [], f"seed {seed}"
    assert 4.0 in {result["champion"] for result in results}


def outcome(client: Any, model: str) -> dict[str, Any]:
    """Levels of the champion and of all that were promoted, and versions whose approval is still open."""
    from components.shared import registry

    promoted = [v for v in registry.versions(client, model) if v.tags.get("wikigpt.verdict") == "promote"]
    champion = registry.holder(client, model, "champion")
    return {
        "champion": float(champion.tags["wikigpt.nll_per_word"]) if champion else None,
        "promoted": [float(v.tags["wikigpt.nll_per_word"]) for v in promoted],
        "open": [str(v.version) for v in promoted if v.tags.get("wikigpt.approval") != "settled"],
    }
