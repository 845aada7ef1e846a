"""The README's first lines in a bare Debian container with Python, git and make, timed, with their output.

    python -m tests.benchmarks.first_minute --record docs/benchmarks/first_minute.json

It needs a Docker engine (DOCKER_HOST, or the default socket) and an image of Debian with Python; apt adds git and make
before the first line. The container clones the current commit, from a copy of the repository that is mounted read-only.
`--pip-cache` names a folder that keeps pip's downloads, so that a second time shows a start with a warm cache. In a
company's network, `--pip-config` names the configuration of pip, `--mount` further folders for it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.benchmarks import record

LINES = ("git clone {clone} wiki-gpt", "make run", "make run", "make test")
_CLONE = "/srv/wiki-gpt.git"
_FIRST_LOSS = re.compile(r"Train the model.*\bloss \d")
# What pip prints about its own configuration.
_PRIVATE = re.compile(r"^(Looking in (indexes|links): |WARNING: Location ').*$")
_KEPT = 45  # lines of an output


def main() -> None:
    """Prints every line of output with its seconds, and ends with the exit code of the first line that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="python:3.11-slim-bookworm", help="an image of Debian with Python")
    parser.add_argument("--pip-cache", type=Path, metavar="FOLDER")
    parser.add_argument("--pip-config", type=Path, metavar="FILE")
    parser.add_argument("--mount", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--cores", type=int, help="give the container fewer cores than the machine has")
    parser.add_argument("--network", default="bridge", help="the network of the container")
    record.add_options(parser)
    options = parser.parse_args()
    recorder = record.Recorder(options, "first_minute", "The first lines of the README in a bare container", [])
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, container(options, clone(Path(folder))) as name:
        values: dict[str, Any] = {"container": describe(name)}
        for number, line in enumerate(LINES):
            ran = timed(name, line.format(clone=_CLONE), "/root/wiki-gpt" if number else "/root")
            lines.append(ran)
            recorder.save(values | {"seconds": summary(lines), "lines": lines})
            if ran["exit_code"]:
                raise SystemExit(ran["exit_code"])


def clone(folder: Path) -> Path:
    """A bare copy of the repository, with the commit that is checked out as its only branch."""
    target = folder / "wiki-gpt.git"
    subprocess.run(["git", "clone", "--quiet", "--bare", "--no-local", str(record.ROOT), str(target)], check=True)
    head = subprocess.run(
        ["git", "-C", str(record.ROOT), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run(["git", "-C", str(target), "update-ref", "refs/heads/main", head], check=True)
    subprocess.run(["git", "-C", str(target), "symbolic-ref", "HEAD", "refs/heads/main"], check=True)
    return target


@contextmanager
def container(options: argparse.Namespace, repository: Path) -> Iterator[str]:
    """The name of a running container with git and make, which is removed at the end."""
    name = f"first-minute-{uuid4().hex[:8]}"
    mounts = [f"{repository}:{_CLONE}:ro", *(f"{path.resolve()}:{path.resolve()}:ro" for path in options.mount)]
    if options.pip_config:
        mounts.append(f"{options.pip_config.resolve()}:/etc/pip.conf:ro")
    if options.pip_cache:
        options.pip_cache.mkdir(parents=True, exist_ok=True)
        mounts.append(f"{options.pip_cache.resolve()}:/root/.cache/pip")
    started = ["run", "--detach", "--init", "--name", name, f"--network={options.network}"]
    started += [f"--volume={mount}" for mount in mounts]
    started += [f"--cpuset-cpus=0-{options.cores - 1}"] if options.cores else []
    docker(*started, options.image, "sleep", "infinity")
    try:
        for command in (
            "apt-get -qq update",
            "apt-get -qq install --yes --no-install-recommends git make >/dev/null",
            f"git config --global --add safe.directory {_CLONE}",
        ):
            docker("exec", "--env=DEBIAN_FRONTEND=noninteractive", name, "sh", "-c", command)
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def describe(name: str) -> str:
    """The system, the Python and the cores of the container."""
    script = '. /etc/os-release; echo "$PRETTY_NAME, $(python3 --version), $(git --version), cores: $(nproc)"'
    return docker("exec", name, "sh", "-c", script).strip()


def timed(name: str, command: str, folder: str) -> dict[str, Any]:
    """Runs a line as a person would and prints its output, each line after the seconds since the start."""
    print(f"$ {command}", flush=True)
    begin = time.monotonic()
    output: list[list[Any]] = []
    process = subprocess.Popen(
        [program(), "exec", f"--workdir={folder}", name, "bash", "-c", f"{command} 2>&1"],
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    for printed in process.stdout:
        # A terminal shows only what follows the last carriage return, as in a count of files.
        line = printed.decode(errors="replace").rstrip().rpartition("\r")[2]
        if not _PRIVATE.match(line):
            output.append([round(time.monotonic() - begin, 1), line])
            print(f"{output[-1][0]:8.1f}  {output[-1][1]}", flush=True)
    code = process.wait()
    seconds = round(time.monotonic() - begin, 1)
    loss = next((moment for moment, line in output if _FIRST_LOSS.search(line)), None)
    return {"command": command, "exit_code": code, "seconds": seconds, "first_loss": loss, "output": shortened(output)}


def shortened(output: list[list[Any]]) -> list[list[Any]]:
    """The first and the last lines of an output, with a line between them that counts the others."""
    left_out = len(output) - _KEPT
    if left_out <= 1:
        return output
    half = _KEPT // 2
    return [*output[:half], [output[half][0], f"({left_out} lines are left out)"], *output[half + left_out :]]


def summary(lines: list[dict[str, Any]]) -> dict[str, float]:
    """The seconds of each line and of the first loss, by names that are the same in every record."""
    names = ("clone", "first_run", "second_run", "test")
    found = {name: line["seconds"] for name, line in zip(names, lines, strict=False)}
    losses = [line["first_loss"] for line in lines if line["first_loss"] is not None]
    return found | ({"first_loss": losses[0]} if losses else {})


def docker(*words: str) -> str:
    """The output of a command of Docker."""
    return subprocess.run([program(), *words], check=True, stdout=subprocess.PIPE, text=True).stdout


@cache
def program() -> str:
    """The first client of Docker that reaches the engine."""
    for folder in os.get_exec_path():
        found = shutil.which("docker", path=folder)
        if found and subprocess.run([found, "version"], capture_output=True, check=False).returncode == 0:
            return found
    raise SystemExit("first_minute: no Docker engine answers: start one, or set DOCKER_HOST.")


if __name__ == "__main__":
    main()
