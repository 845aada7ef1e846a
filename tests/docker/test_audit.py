"""The comparison of the locks with advisories, on reports of pip-audit that are made here: no network."""

import json
import subprocess
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

DOCKER = Path(__file__).parents[2] / "docker"
REPORT = {
    "dependencies": [
        {"name": "alpha", "version": "1.0", "vulns": [{"id": "GHSA-1", "fix_versions": ["1.1", "2.0"]}]},
        {"name": "beta", "version": "2.0", "vulns": []},
        {"name": "gamma", "skip_reason": "not found"},
    ],
    "fixes": [],
}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = spec_from_file_location("audit", DOCKER / "audit.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_advisory_without_a_reason_fails(audit: ModuleType) -> None:
    lines, accepted = audit.judge(REPORT, {})
    assert not accepted
    assert lines == [
        "2 packages were compared. Advisories: 1, of which 0 stand with a reason.",
        "GHSA-1 (alpha 1.0, fixed in 1.1, 2.0): no reason is given. Upgrade the package, or add the advisory to"
        " advisories.toml.",
        "gamma: pip-audit could not compare it.",
    ]


def test_an_advisory_with_a_reason_stands(audit: ModuleType) -> None:
    lines, accepted = audit.judge(REPORT, {"GHSA-1": {"reason": "It is not used."}, "GHSA-2": {"reason": "Old."}})
    assert accepted
    assert lines[1] == "GHSA-1 (alpha 1.0, fixed in 1.1, 2.0): It is not used."
    assert lines[2] == "GHSA-2: no package has it any more. Remove it from advisories.toml."


def test_every_advisory_that_stands_has_a_reason() -> None:
    standing = tomllib.loads((DOCKER / "lock/advisories.toml").read_text())
    assert all(set(entry) == {"reason"} and entry["reason"].strip() for entry in standing.values())


def test_every_package_of_every_lock_is_compared(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: dict[str, list[str]] = {}

    def scan(packages: dict[str, list[str]]) -> subprocess.CompletedProcess[str]:
        compared.update(packages)
        return subprocess.CompletedProcess([], 1, json.dumps(REPORT), "")

    monkeypatch.setattr(audit, "unreachable", lambda address: None)
    monkeypatch.setattr(audit, "scan", scan)
    assert audit.main() == 1
    lines = [line for lock in (DOCKER / "lock").glob("*.txt") for line in lock.read_text().splitlines()]
    assert compared.keys() == {line.partition("==")[0].lower() for line in lines if line[:1].isalnum()}
    assert {"torch", "mlflow", "kfp"} <= compared.keys()
    assert all(version[0].isdigit() for versions in compared.values() for version in versions)


def test_two_versions_of_a_package_are_compared(audit: ModuleType) -> None:
    locks = (
        "alpha==1.0 \\\n    --hash=sha256:0\nbeta==2 ; python_version < '3.12'\nbeta==3\nTorch===2.13.0\nalpha==1.0\n"
    )
    assert audit.pins(locks) == {"alpha": ["1.0"], "beta": ["2", "3"], "torch": ["2.13.0"]}


def test_a_database_that_cannot_be_reached_is_named(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "DATABASE", "http://127.0.0.1:9")
    assert audit.main() == 3
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("The database of advisories cannot be reached (http://127.0.0.1:9: ")
    assert line.endswith("): run this where it can.")
