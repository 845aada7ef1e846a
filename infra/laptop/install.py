"""Makes the environment of a laptop: `python3 infra/laptop/install.py .venv [EXTRA ...]`, which `make` calls.

The packages are those of docker/lock, by `uv` where it is installed and by pip otherwise. torch comes last and from an
index of its own: the address in TORCH_INDEX if it is set; otherwise, on a machine without an NVIDIA driver, PyTorch's
index of CPU builds, which saves gigabytes. Where that cannot be reached, pip's configured index has to do.

This file needs the standard library only, and its first lines must run on an old Python to name the one that is needed.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "docker" / "lock"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# A company's network may swallow the request instead of refusing it: one attempt, and no long wait for it.
ONCE = {"PIP_RETRIES": "0", "PIP_TIMEOUT": "10", "UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "10"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the environment, which is made if it does not exist")
    parser.add_argument("extras", nargs="*", metavar="EXTRA", help="also install an extra, such as test")
    asked = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 -- `python3` is older than the project on many machines
        raise SystemExit(
            f"Wiki-GPT needs Python 3.11 or later, and {sys.executable} is {platform.python_version()}:"
            " name another one, as in `make run PYTHON=python3.12`."
        )
    python = asked.folder / "bin" / "python"
    if not python.exists():
        say(f"the environment {asked.folder} with Python {platform.python_version()}")
        if not run([sys.executable, "-m", "venv", str(asked.folder)]):
            raise SystemExit("install: the environment could not be made: see the message above.")
    installer = Installer(python)
    installer.install_locked(["base", "train", *asked.extras])
    installer.install_torch(os.environ.get("TORCH_INDEX", ""))
    installer.install_project()


class Installer:
    """Installs into an environment by `uv` or pip.

    Attributes:
        python: the interpreter of the environment.
        uv: the program `uv`, or None.
    """

    def __init__(self, python: Path):
        self.python = python
        self.uv = shutil.which("uv")

    def install_locked(self, names: list[str]) -> None:
        """Installs the packages of locks, each checked against its hash."""
        files = [part for name in names for part in ("-r", str(LOCK / f"{name}.txt"))]
        say(f"{sum(map(count, names))} packages of {', '.join(f'docker/lock/{name}.txt' for name in names)}")
        self._require(["--require-hashes", "--no-deps", *files], "the packages")

    def install_torch(self, index: str) -> None:
        """Installs the build of torch for this machine, after the locks, which hold what else torch depends on.

        Args:
            index: the address of the index that has it; "" chooses one.
        """
        (wanted,) = [line for line in lock("torch") if not line.startswith("#")]
        if index:
            say(f"{wanted} from the index that TORCH_INDEX names")
            self._require([wanted], "torch", from_index(index))
        elif has_nvidia_driver():
            say(f"{wanted} with CUDA, since this machine has an NVIDIA driver")
            self._require(cuda_build(wanted), "torch")
        else:
            say(f"{wanted} for CPUs from {CPU_INDEX}, since this machine has no NVIDIA driver")
            if not self._try(["--no-deps", wanted], {**from_index(CPU_INDEX), **ONCE}, quiet=True):
                say(f"it cannot be had there, so pip takes {wanted} from the index that it is configured with")
                self._require_by_pip([wanted], "torch")

    def install_project(self) -> None:
        """Installs this checkout. The setuptools of the lock builds it, so that nothing unpinned is downloaded."""
        self._require_by_pip(["--no-deps", "--no-build-isolation", "-e", str(ROOT)], "the project")

    def _require(self, arguments: list[str], what: str, variables: dict[str, str] | None = None) -> None:
        if not self._try(arguments, variables or {}):
            raise SystemExit(f"install: {what} could not be installed: see the message above.")

    def _require_by_pip(self, arguments: list[str], what: str) -> None:
        if not run([*self._pip(), *arguments]):
            raise SystemExit(f"install: {what} could not be installed: see the message above.")

    def _try(self, arguments: list[str], variables: dict[str, str], *, quiet: bool = False) -> bool:
        """Tries to install something, first by `uv` if there is one, and returns whether it worked."""
        if self.uv:
            if run([self.uv, "pip", "install", "--quiet", "--python", str(self.python), *arguments], variables, quiet):
                return True
            say("uv cannot install this, so pip tries")  # pip has a configuration of its own: mirrors, certificates
        return run([*self._pip(), *arguments], variables, quiet)

    def _pip(self) -> list[str]:
        return [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def from_index(address: str) -> dict[str, str]:
    """The variables that make pip and uv use an index. Its address may hold a password, and arguments are public."""
    return {"PIP_INDEX_URL": address, "UV_DEFAULT_INDEX": address}


def has_nvidia_driver() -> bool:
    """Whether this machine has the driver of an NVIDIA GPU."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def cuda_build(wanted: str) -> list[str]:
    """The CUDA build of torch as arguments of pip: from the lock of the GPU image on the platform of that lock."""
    if sys.platform == "linux" and platform.machine() == "x86_64":
        return ["--require-hashes", "--no-deps", "-r", str(LOCK / "cuda.txt")]
    return [wanted]


def lock(name: str) -> list[str]:
    """The lines of a lock."""
    return (LOCK / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def count(name: str) -> int:
    """The number of packages in a lock."""
    return sum(1 for line in lock(name) if line[:1].isalnum())


def run(command: list[str], variables: dict[str, str] | None = None, quiet: bool = False) -> bool:
    """Runs a command with additional environment variables, and returns whether it succeeded."""
    errors = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, env={**os.environ, **(variables or {})}, stderr=errors, check=False).returncode == 0


def say(sentence: str) -> None:
    """Prints a line of progress at once, also through a pipe."""
    print(f"install: {sentence}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
