"""Fixtures of the registry, and a store in the folder of the test."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))


@pytest.fixture(autouse=True)
def no_picture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shows no trend except in its own tests: importing matplotlib and drawing take a second of each registration."""
    if not request.path.name.startswith("test_trend"):
        monkeypatch.setattr("components.register.run.show_trend", lambda *_: None)
