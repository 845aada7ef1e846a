"""Where the steps of a run on this machine go: into processes, or into containers of the built image."""

from __future__ import annotations

import os
from typing import Any

from components.shared.failure import ExitCode, Failure
from pipelines.home import Home

DEFAULT_IMAGE = "wikigpt-python:dev"
_PASSED_ON = ("WIKIGPT_", "MLFLOW_", "AWS_", "HF_", "GX_")


def runner_plan(runner: str, image: str | None, home: Home, store: str) -> dict[str, Any]:
    """What `pipelines.local` needs to know of the runner, as plain values.

    Raises:
        Failure: there is no such runner.
    """
    if runner == "subprocess":
        return {"runner": "subprocess"}
    if runner == "docker":
        return {"runner": "docker", "image": image or DEFAULT_IMAGE, "docker": _container(home, store)}
    raise Failure(
        f"There is no runner {runner!r}",
        where="--runner",
        remedy="give subprocess or docker",
        exit_code=ExitCode.USAGE,
    )


def container_environment() -> dict[str, str]:
    """What a container is told of the surroundings: the variables that steps read, and a HOME on its scratch."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    return {**passed, "HOME": "/tmp"}


def _container(home: Home, store: str) -> dict[str, Any]:
    """Arguments of a container: it sees the home at the same path, as the same user, and has scratch at /tmp only."""
    folders = sorted({str(home.root)} | ({store} if "://" not in store else set()))
    return {
        "user": f"{os.getuid()}:{os.getgid()}",
        "mounts": [{"Type": "bind", "Source": folder, "Target": folder, "ReadOnly": False} for folder in folders],
        "network_mode": "host",
        "read_only": True,
        "tmpfs": {"/tmp": "rw,exec,mode=1777"},
        "shm_size": "1g",
        "init": True,
    }
