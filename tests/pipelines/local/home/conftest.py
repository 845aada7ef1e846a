"""The command in separate processes, in unusual homes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.http_servers import free_port
from tests.servers import serving

ROOT = Path(__file__).parents[4]
TINY = ROOT / "tests" / "profiles" / "tiny.yaml"
_NOT_INHERITED = ("WIKIGPT_", "MLFLOW_", "AWS_", "HF_", "PYTEST_")


@dataclass(frozen=True)
class Ended:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def is_one_sentence(self) -> bool:
        """Whether stderr contains one sentence of the command, and nothing else."""
        return self.err.startswith("wikigpt: ") and self.err.endswith(".\n") and self.err.count("\n") == 1


def environment(**variables: str | None) -> dict[str, str]:
    """The variables of a command; None removes one."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
    merged = {**inherited, "PYTHONPATH": str(ROOT), **variables}
    return {name: value for name, value in merged.items() if value is not None}


def wikigpt(
    *arguments: object, variables: dict[str, str | None] | None = None, prefix: tuple[str, ...] = (), **options: Any
) -> Ended:
    """Runs the command to its end.

    Args:
        arguments: of the command.
        variables: the variables that are added to the inherited ones.
        prefix: a program that starts it.
        options: of `subprocess.run`.
    """
    command = [*prefix, sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment(**(variables or {})), **options
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def ui(home: Path, logs: Path) -> Iterator[str]:
    """`wikigpt ui` until the block ends; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "pipelines.cli", "ui", "--home", str(home), "--port", str(port)]
    with serving(command, f"http://127.0.0.1:{port}/health", logs / "ui.log", environment()) as address:
        yield address


def may_mount() -> tuple[str, ...] | None:
    """The program that starts another one with the permission to mount file systems; None if that is impossible."""
    for unshare in (("unshare", "-m"), ("unshare", "-Urm")):
        with suppress(OSError):
            tried = subprocess.run([*unshare, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
            if tried.returncode == 0:
                return unshare
    return None


def read_only(folder: Path) -> tuple[str, ...]:
    """The program that starts another one for which a folder is read-only; only root needs it."""
    if os.geteuid() != 0:
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode & 0o555)
        return ()
    unshare = may_mount()
    if unshare is None:
        pytest.skip("root may not mount a file system here, and no permission holds it back")
    script = f'mount --bind "{folder}" "{folder}" && mount -o remount,bind,ro "{folder}" && exec "$@"'
    return (*unshare, "sh", "-c", script, "sh")


@pytest.fixture(autouse=True)
def _own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("WIKIGPT_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
