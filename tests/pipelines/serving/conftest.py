"""Fixtures of the registry that these cases use too, and what a server on this machine needs."""

import shutil
import sys
from pathlib import Path

import pytest

from pipelines.serving.engine import EngineCommand
from tests.pipelines.registry.conftest import _filled, client, filled  # noqa: F401

STAND_IN = Path(__file__).with_name("stand_in_engine.py")


@pytest.fixture
def stand_in() -> EngineCommand:
    """The command of the engine that starts at once."""
    return EngineCommand(f"{sys.executable} {STAND_IN} {{model}} {{port}}")


@pytest.fixture
def haproxy() -> str:
    found = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
    if found is None:
        pytest.skip("no HAProxy here: install Debian's package haproxy")
    return found
