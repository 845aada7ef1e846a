"""The locks of the images match the requirements of the project; neither an engine nor a network is needed."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
LOCK = REPOSITORY / "docker" / "lock"
REMEDY = "run `python docker/lock.py`, see docs/images.md"


def pins(*names: str) -> dict[str, str]:
    """The versions in the named locks, by package."""
    text = "\n".join((LOCK / f"{name}.txt").read_text() for name in names)
    found = re.findall(r"^([\w.-]+)={2,3}([\w.+!-]+)", text, re.MULTILINE)
    assert len(found) == len(dict(found)), "a package is pinned twice"
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("torch", ["torch", "cuda"])
def test_the_locks_hold_every_direct_dependency_in_a_version_that_is_allowed(torch: str) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    locked = pins("app", torch)
    for requirement in map(Requirement, project["dependencies"]):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), f"{requirement}: {REMEDY}"


def test_the_server_and_the_steps_use_the_same_mlflow() -> None:
    assert pins("mlflow")["mlflow"] == pins("app")["mlflow"]


@pytest.mark.parametrize(("lock", "held"), [("app", False), ("torch", False), ("mlflow", False), ("cuda", True)])
def test_only_the_gpu_image_holds_libraries_of_cuda(lock: str, held: bool) -> None:
    assert any(name.startswith(("nvidia-", "cuda-", "triton")) for name in pins(lock)) == held


@pytest.mark.parametrize("name", ["app", "cuda", "mlflow"])
def test_every_package_is_pinned_by_hash(name: str) -> None:
    entries = re.split(r"^(?=\S)", (LOCK / f"{name}.txt").read_text(), flags=re.MULTILINE)
    packages = [entry for entry in entries if entry.strip() and not entry.startswith("#")]
    assert len(packages) == len(pins(name))
    assert [entry.split()[0] for entry in packages if "--hash=sha256:" not in entry] == []
