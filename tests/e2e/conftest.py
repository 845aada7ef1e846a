"""Runs of the real command in separate processes, on the sample corpus."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

TINY = Path(__file__).parents[1] / "profiles" / "tiny.yaml"
NOT_INHERITED = ("WIKIGPT_", "MLFLOW_", "AWS_")


@dataclass(frozen=True)
class Ended:
    """The result of a command."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict:
        assert self.code == 0, self.stderr
        return json.loads(self.stdout)


def environment(**variables: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    return {**inherited, **variables}


def wikigpt(*arguments: object, timeout: float = 300, **variables: str) -> Ended:
    """Runs the command to its end."""
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment(**variables))
    return Ended(done.returncode, done.stdout, done.stderr)


def start(*arguments: object, **variables: str) -> subprocess.Popen[str]:
    """Starts the command; the caller stops it."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


@pytest.fixture
def tiny_run(tmp_path) -> Callable[..., Ended]:
    """Runs the tiny profile in a home below `tmp_path`."""

    def run(*arguments: object, **variables: str) -> Ended:
        return wikigpt("run", "--json", "--profile", TINY, "--home", tmp_path / "home", *arguments, **variables)

    return run
