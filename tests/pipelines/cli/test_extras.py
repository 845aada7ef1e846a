"""The command line without the packages of the extra `train`, as on a laptop that only submits to a cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from pipelines.local import doctor, machine
from tests.docker.test_lock import pins
from tests.kfp_stand_in.fixtures import stand_in  # noqa: F401
from tests.kfp_stand_in.server import StandIn
from tests.registry import make_version
from tests.servers import mlflow_server

ROOT = Path(__file__).parents[3]
IMAGE = "registry.example/wikigpt@sha256:" + "a" * 64
# These read tokenizers or corpora on this machine.
NEED_TRAIN = {"pipelines.cluster.mirror", "pipelines.local.check"}
MOST_MEGABYTES = 250
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
# Hides packages and their modules from a process that has them: its first two lines hold their names.
WITHOUT = """
import sys
from importlib.machinery import PathFinder
from importlib.metadata import DistributionFinder

hidden, modules = set(input().split()), set(input().split())


class Hiding(DistributionFinder):
    def __init__(self, finders):
        self.finders = finders

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in modules:
            return None
        found = (finder.find_spec(name, path, target) for finder in self.finders)
        return next((spec for spec in found if spec), None)

    def find_distributions(self, context=DistributionFinder.Context()):
        for found in PathFinder.find_distributions(context):
            if found.name not in hidden:
                yield found


sys.meta_path[:] = [Hiding(list(sys.meta_path))]
"""
COMMAND = f"{WITHOUT}\nfrom pipelines.cli.app import main\nmain()\n"


@cache
def hidden() -> str:
    """The packages outside of the lock of the command line as a line, and the modules that only they provide as one."""
    names = {*pins("train"), *pins("test"), "torch"}
    provided = packages_distributions()
    modules = [module for module, by in provided.items() if {canonicalize_name(name) for name in by} <= names]
    packages = {name for by in provided.values() for name in by if canonicalize_name(name) in names}
    return f"{' '.join(packages)}\n{' '.join(modules)}\n"


def without_train(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a program in a process that finds no package outside of the lock of the command line."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, input=hidden(), capture_output=True, text=True, cwd=ROOT)


def test_the_modules_of_the_commands_import_without_the_packages_of_the_steps() -> None:
    walk = """
import importlib, pkgutil
import pipelines

for module in pkgutil.walk_packages(pipelines.__path__, "pipelines."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError:
        print(module.name)
"""
    done = without_train(WITHOUT + walk)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == NEED_TRAIN


def test_compile_needs_no_package_of_the_steps(tmp_path: Path) -> None:
    done = without_train(COMMAND, "compile", "--profile", "quick", "-o", tmp_path / "quick.yaml")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "quick.yaml").read_text() == (ROOT / "tests/pipelines/golden/quick.yaml").read_text()


@pytest.mark.parametrize(("command", "package"), [("run", "torch"), ("mirror", "numpy")])
def test_a_command_that_needs_more_says_which_extra_to_install(tmp_path: Path, command: str, package: str) -> None:
    done = without_train(COMMAND, command, "--home", tmp_path / "home")
    assert done.returncode == 2
    assert done.stderr == (
        f"wikigpt: This command needs the package {package}, which is not installed ({sys.prefix}):"
        " install the extra train, in a clone by `pip install -e '.[train]'`.\n"
    )


def test_doctor_says_what_is_impossible_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", missing)
    monkeypatch.setattr(machine, "version", missing)
    found = doctor.torch_build()
    assert (found.ok, found.seen) == (
        False,
        "not installed: install the extra train, in a clone by `pip install -e '.[train]'`",
    )
    assert (doctor.gpu().ok, machine.gpus()) == (False, 0)


def run(command: list[str]) -> str:
    """What a command prints, which must succeed."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the command line only: the lock of its packages, and a wheel of the project."""
    folder = tmp_path_factory.mktemp("small")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("components", "pipelines"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    python = folder / "venv" / "bin" / "python"
    run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")])
    run([*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source)])
    (wheel,) = folder.glob("*.whl")
    into = [*PIP, f"--python={python}", "install", "--quiet", "--no-deps"]
    run([*into, "--require-hashes", "-r", str(ROOT / "docker/lock/base.txt")])
    run([*into, str(wheel)])
    return folder / "venv"


@pytest.mark.slow
def test_an_environment_without_the_extra_is_complete_and_small(small: Path) -> None:
    run([*PIP, f"--python={small}/bin/python", "check"])
    used = run(["du", "-sm", str(small)])
    assert int(used.split()[0]) < MOST_MEGABYTES


@pytest.mark.slow
def test_it_compiles_submits_and_schedules(small: Path, stand_in: StandIn, tmp_path: Path) -> None:  # noqa: F811
    environment = {**os.environ, "KF_PIPELINES_ENDPOINT": stand_in.url}
    stand_in.state.lifecycle = ("running",)

    def wikigpt(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(small / "bin/wikigpt"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)

    assert wikigpt("--help").returncode == 0
    assert wikigpt("compile", "-p", "quick", "-o", tmp_path / "quick.yaml").returncode == 0
    assert (tmp_path / "quick.yaml").read_text() == (ROOT / "tests/pipelines/golden/quick.yaml").read_text()
    submitted = wikigpt("submit", "-p", "quick", "--image", IMAGE)
    assert submitted.returncode == 0, submitted.stderr
    run = submitted.stdout.strip()
    assert run in stand_in.state.runs
    assert "running" in wikigpt("status", run).stdout
    assert "The log of step train cannot be read" in wikigpt("logs", run).stderr
    applied = wikigpt("schedule", "apply", "--from", ROOT / "infra/schedules", "--image", IMAGE)
    assert applied.stdout.startswith("nightly: created"), applied.stderr
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/registry.db"
    for command, package in [("run", "torch"), ("models", "mlflow")]:
        refused = wikigpt(command)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"needs the package {package}, which is not installed" in refused.stderr


@pytest.mark.slow
def test_it_uses_the_registry_of_a_server(small: Path, tracking_uri: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    make_version(MlflowClient(tracking_uri), "wikigpt", 4.0)

    def wikigpt(*arguments: str) -> tuple[int, str]:
        command = [str(small / "bin/wikigpt"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr

    with mlflow_server(tracking_uri, tmp_path) as address:
        environment = {**os.environ, "MLFLOW_TRACKING_URI": address}
        code, said = wikigpt("promote", "1")
        assert code == 0, said
        assert "Version 1 of wikigpt is now the champion." in said
        assert wikigpt("models")[0] == 0
        code, said = wikigpt("promote", "9")
        assert code != 0 and "wikigpt has no version 9" in said, said
