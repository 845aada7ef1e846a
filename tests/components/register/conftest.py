"""Fixtures of the registry, and a store in the folder of the test."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
