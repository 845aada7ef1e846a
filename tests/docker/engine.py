"""A Docker engine to build and run the images with, where DOCKER_HOST or the default socket leads to one."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# As a cluster runs a step: nothing writable but scratch, no privilege, a user that no file of the image knows.
CONFINED = (
    "--read-only",
    "--tmpfs=/tmp:rw,exec,mode=1777",
    "--user=54321:54321",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
)
REVISION = "0123456789abcdef0123456789abcdef01234567"


@cache
def client() -> str:
    """A client that can build by BuildKit, on an engine that answers.

    Current ones need the plug-in `buildx` for it, ones from before version 23 have it inside.
    """
    programs = [shutil.which("docker", path=folder) for folder in os.get_exec_path()]
    fit = [program for program in programs if program and _answers(program) and _can_build(program)]
    if not fit:
        pytest.skip("no Docker engine here: start one, or set DOCKER_HOST")
    return fit[0]


def docker(*arguments: str, timeout: float = 600, check: bool = True, stdin: str | None = None) -> str:
    """What a docker command prints on stdout, without the last newline; what it prints on stderr if it fails."""
    command = [client(), *arguments]
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, input=stdin, env=environment
    )
    assert done.returncode == 0 or not check, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout.rstrip("\n")


@cache
def image(target: str) -> str:
    """Builds a target of docker/Dockerfile and gives its name."""
    name = f"wikigpt-test:{target}"
    version = re.search(r'^version = "(.+)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    values = {"VERSION": version[1], "REVISION": REVISION, "TORCH_INDEX": os.environ.get("TORCH_INDEX", "")}
    options = [f"--target={target}", f"--tag={name}", *(f"--build-arg={key}={value}" for key, value in values.items())]
    docker("build", f"--file={REPOSITORY}/docker/Dockerfile", *options, str(REPOSITORY), timeout=1800)
    return name


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """Starts a container in the background, gives its id and removes it in the end."""
    container = docker("run", "--detach", *arguments)
    try:
        yield container
    finally:
        docker("rm", "--force", container, check=False)


def _answers(program: str) -> bool:
    return subprocess.run([program, "version"], capture_output=True, check=False).returncode == 0


def _can_build(program: str) -> bool:
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    major = re.search(r"version (\d+)", version)
    buildx = subprocess.run([program, "buildx", "version"], capture_output=True, check=False).returncode == 0
    return buildx or (major is not None and int(major[1]) < 23)
