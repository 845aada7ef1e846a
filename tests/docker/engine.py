"""A Docker engine that builds and runs the images, if DOCKER_HOST or the default socket leads to one."""

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
# As on a cluster: only scratch is writable, there are no privileges, and the user is unknown in the image.
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

    Current clients need the plug-in `buildx`; BuildKit is part of those before version 23.
    """
    programs = [shutil.which("docker", path=folder) for folder in os.get_exec_path()]
    fit = [program for program in programs if program and _answers(program) and _can_build(program)]
    if not fit:
        pytest.skip("no Docker engine here: start one, or set DOCKER_HOST")
    return fit[0]


def docker(*arguments: str, timeout: float = 600, check: bool = True, stdin: str | None = None) -> str:
    """The stdout of a docker command without the last newline; a failure shows its stderr."""
    command = [client(), *arguments]
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, input=stdin, env=environment
    )
    assert done.returncode == 0 or not check, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout.rstrip("\n")


@cache
def image(target: str) -> str:
    """Builds a target of docker/Dockerfile, and returns its name."""
    name = f"wikigpt-test:{target}"
    version = re.search(r'^version = "(.+)"', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    values = {"VERSION": version[1], "REVISION": REVISION, "TORCH_INDEX": os.environ.get("TORCH_INDEX", "")}
    options = [f"--target={target}", f"--tag={name}", *(f"--build-arg={key}={value}" for key, value in values.items())]
    docker("build", f"--file={REPOSITORY}/docker/Dockerfile", *options, str(REPOSITORY), timeout=1800)
    return name


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    """Starts a container in the background, yields its id, and removes it at the end."""
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
