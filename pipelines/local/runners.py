"""The runners for steps on this machine: processes, or containers of the built image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import ExitCode, Failure
from components.shared.signing.keys import PUBLIC_KEY, SIGNING_KEY, is_path
from pipelines.local.home import Home

if TYPE_CHECKING:
    from pipelines.config.settings import RunSettings

DEFAULT_IMAGE = "wikigpt-python:dev"
_PASSED_ON = ("WIKIGPT_", "MLFLOW_", "AWS_", "HF_", "GX_")


# The first process of a step's container is a shell, which does not forward signals. The step is found by its command.
_STOP_STEP = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        command, variables = ((folder / name).read_bytes().split(b"\\0") for name in ("cmdline", "environ"))
    except OSError:
        continue
    if b"kfp.dsl.executor_main" in command and b"WIKIGPT_RUN=" + os.environb[b"WIKIGPT_RUN"] in variables:
        os.kill(int(folder.name), signal.SIGTERM)
"""


def runner_plan(
    runner: str, image: str | None, home: Home, store: str, settings: RunSettings | None = None
) -> dict[str, Any]:
    """Returns the arguments of the runner for `pipelines.local.dag`, as plain values.

    Args:
        runner: `subprocess` or `docker`.
        image: the image of the containers; None uses the one that the documentation builds.
        home, store: the home and the store of the run. Containers write to both.
        settings: the settings of the run. Containers read the folders that they name, and get the GPUs if they train
            on one.

    Raises:
        Failure: the runner does not exist.
    """
    if runner == "subprocess":
        return {"runner": "subprocess"}
    if runner == "docker":
        return {"runner": "docker", "image": image or DEFAULT_IMAGE, "docker": _container(home, store, settings)}
    raise Failure(
        f"There is no runner {runner!r}",
        where="--runner",
        remedy="give subprocess or docker",
        exit_code=ExitCode.USAGE,
    )


def docker_client(timeout: int = 60) -> Any:
    """Connects to the Docker engine.

    Args:
        timeout: the seconds that each call may take.

    Raises:
        Failure: no engine answers.
    """
    import docker

    try:
        client = docker.from_env(timeout=timeout)
        client.ping()
    except docker.errors.DockerException as error:
        raise Failure(
            "Docker does not answer",
            where=os.environ.get("DOCKER_HOST", "the default socket"),
            remedy="start it, name it by DOCKER_HOST, or leave out --runner docker",
            exit_code=ExitCode.UNREACHABLE,
        ) from error
    return client


def stop_containers(run: str, *, kill: bool = False) -> None:
    """Stops the steps of a run in containers, or kills the containers, if a Docker engine answers."""
    try:
        client = docker_client()
    except Failure:
        return
    for container in client.containers.list(filters={"label": f"wikigpt.run={run}"}):
        if kill:
            container.kill()
        else:
            container.exec_run(["python3", "-c", _STOP_STEP])


def container_environment() -> dict[str, str]:
    """The environment variables of a container: those that steps read, and a HOME on its scratch volume."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    return {**passed, "HOME": "/tmp", "PYTHONSAFEPATH": "1"}


def _container(home: Home, store: str, settings: RunSettings | None) -> dict[str, Any]:
    """Arguments of a container: it mounts folders at the same paths, runs as the same user, and has scratch at /tmp."""
    written = {str(home.root)} | ({store} if "://" not in store else set())
    for folder in written:  # the engine cannot mount a missing folder
        Path(folder).mkdir(parents=True, exist_ok=True)
    read = _named_paths(settings) - written if settings else set()
    gpus = settings is not None and settings.train.device == "cuda"
    return {
        "user": f"{os.getuid()}:{os.getgid()}",
        "mounts": [
            {"Type": "bind", "Source": path, "Target": path, "ReadOnly": path in read}
            for path in sorted(written | read)
        ],
        **({"device_requests": [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]]}]} if gpus else {}),
        "network_mode": "host",
        "pid_mode": "host",  # otherwise other steps cannot see whether the process of a heartbeat is alive
        "read_only": True,
        "tmpfs": {"/tmp": "rw,exec,mode=1777"},
        "shm_size": "1g",
        "init": True,
    }


def _named_paths(settings: RunSettings) -> set[str]:
    """Folders and files of this machine that the settings name: corpus, pretrained weights, tokenizer, keys."""
    inputs = (settings.download.corpus, settings.train.pretrained, settings.tokenize.tokenizer)
    keys = (settings.register.signing_key, os.environ.get(SIGNING_KEY), os.environ.get(PUBLIC_KEY))
    named = (*inputs, *(key for key in keys if key and is_path(key)))
    return {name for name in named if name and Path(name).is_absolute() and Path(name).exists()}
