"""The locks match the requirements of the project; neither an engine nor a network is needed."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
LOCK = REPOSITORY / "docker" / "lock"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
NAMES = sorted(path.stem for path in LOCK.glob("*.txt"))
REMEDY = "run `make lock`, see docs/installation.md"
# What an environment installs: the extra that it has, and its locks.
LAPTOP = ("base", "train", "torch")
ENVIRONMENTS = [
    ("", ("base",)),
    ("train", LAPTOP),
    ("docs", ("base", "docs", "train", "torch")),
    ("test", (*LAPTOP, "test")),
    ("serve", ("app", "torch")),
    ("serve", ("app", "cuda")),
]
PLATFORMS = [
    {"sys_platform": system, "platform_system": platform, "platform_machine": machine, "python_version": python}
    for system, platform, machine in [("linux", "Linux", "x86_64"), ("darwin", "Darwin", "arm64")]
    for python in ("3.11", "3.12", "3.13")
]


def pins(*names: str, platform: dict[str, str] | None = None) -> dict[str, str]:
    """The versions in the named locks, by package, on a platform or on this one."""
    text = "\n".join((LOCK / f"{name}.txt").read_text() for name in names)
    entries = re.findall(r"^([\w.-]+)={2,3}([\w.+!-]+)(?: ; ([^\\\n]+))?", text, re.MULTILINE)
    full = {**platform, "python_full_version": f"{platform['python_version']}.0"} if platform else {}
    found = [(name, version) for name, version, marker in entries if not marker or Marker(marker).evaluate(full)]
    assert len(found) == len(dict(found)), "a package is pinned twice"
    return {canonicalize_name(name): version for name, version in found}


def requirements(extra: str) -> list[Requirement]:
    """The direct dependencies of the project with an extra, and of the extras that it names."""
    found = [Requirement(line) for line in PROJECT["dependencies"]]
    wanted = [extra] if extra else []
    while wanted:
        for requirement in map(Requirement, PROJECT["optional-dependencies"][wanted.pop()]):
            if requirement.name == PROJECT["name"]:
                wanted += requirement.extras
            else:
                found.append(requirement)
    return found


@pytest.mark.parametrize(("extra", "locks"), ENVIRONMENTS, ids=lambda value: "+".join(value))
def test_the_locks_hold_every_direct_dependency_in_a_version_that_is_allowed(extra: str, locks: tuple[str]) -> None:
    for platform in PLATFORMS if "base" in locks else [None]:
        locked = pins(*locks, platform=platform)
        for requirement in requirements(extra):
            version = locked.get(canonicalize_name(requirement.name), "nothing")
            assert version != "nothing" and requirement.specifier.contains(version), f"{requirement}: {REMEDY}"


def test_a_laptop_and_the_images_have_the_same_versions() -> None:
    assert pins(*LAPTOP, "serve", platform=PLATFORMS[0]) == pins("app", "torch")


def test_the_server_and_the_steps_use_the_same_mlflow() -> None:
    assert pins("mlflow")["mlflow"] == pins("app")["mlflow"]


def test_what_the_command_line_needs_is_small() -> None:
    """Each of these would multiply the size of an environment that only submits to a cluster."""
    heavy = {"datasets", "great-expectations", "matplotlib", "mlflow", "numpy", "pandas", "pyarrow", "scipy", "torch"}
    assert heavy & pins("base").keys() == set()


@pytest.mark.parametrize("lock", NAMES)
def test_only_the_gpu_image_holds_libraries_of_cuda(lock: str) -> None:
    held = any(name.startswith(("nvidia-", "cuda-", "triton")) for name in pins(lock))
    assert held == (lock == "cuda")


@pytest.mark.parametrize("name", sorted({*NAMES} - {"torch"}))
def test_every_package_is_pinned_by_hash_and_no_index_is_named(name: str) -> None:
    text = (LOCK / f"{name}.txt").read_text()
    entries = [entry for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if entry.strip() and entry[0] != "#"]
    assert [entry.split()[0] for entry in entries if not re.match(r"[\w.-]+={2,3}\S+", entry)] == []
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in text
