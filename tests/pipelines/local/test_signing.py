"""Keys in a run on this machine: who needs one, and where its path leads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.shared.signing.keys import PUBLIC_KEY, SIGNING_KEY
from pipelines.cli.options import settings_of
from pipelines.config.settings import load
from pipelines.local import supervisor
from pipelines.local.check import signing
from pipelines.local.home import open_home
from pipelines.local.run import execute, step_variables
from pipelines.local.runners import runner_plan
from tests.signing import make_keys


class Started(Exception):
    """The steps would start now."""


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (PUBLIC_KEY, SIGNING_KEY):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("plan", "signs"), [({}, True), ({"until": "train"}, False)], ids=["run", "until-train"])
def test_a_run_that_registers_nothing_needs_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: dict[str, str], signs: bool
) -> None:
    """Else a version that a cluster signed could be reproduced only where its key is."""

    def start(*_: object) -> None:
        raise Started

    monkeypatch.setattr(supervisor, "start", start)
    home, settings = open_home(tmp_path / "home"), load("quick", ["register.signing=required"])
    with pytest.raises(Started):
        execute(settings, home, str(home.store), None, {"runner": "subprocess", **plan}, run="one")  # type: ignore[arg-type]
    (parameters,) = home.root.rglob("parameters.json")
    asked = "required" if signs else "never"
    assert f"register.signing={asked}" in json.loads(parameters.read_text())["overrides"]


def test_paths_of_keys_are_absolute_in_steps_and_mounted_in_containers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = make_keys(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(SIGNING_KEY, private.name)
    monkeypatch.setenv(PUBLIC_KEY, public.read_text())
    home = open_home(tmp_path / "home")
    variables = step_variables(home, str(home.store), "one")
    assert variables[SIGNING_KEY] == str(private)
    assert PUBLIC_KEY not in variables, "the key itself is inherited as it is"
    settings = settings_of("quick", [f"register.signing_key={private.name}"], "sample")
    assert settings.register.signing_key == str(private)
    mounts = runner_plan("docker", None, home, str(home.store), settings)["docker"]["mounts"]
    assert {"Type": "bind", "Source": str(private), "Target": str(private), "ReadOnly": True} in mounts
    device = "pkcs11:token=t;object=o"
    assert settings_of("quick", [f"register.signing_key={device}"], "sample").register.signing_key == device


def test_check_says_whether_a_run_could_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(signing(load("quick"))) == []
    (finding,) = signing(load("quick", ["register.signing=required"]))
    assert not finding.ok and "no key is named" in finding.seen
    monkeypatch.setenv(SIGNING_KEY, str(make_keys(tmp_path)[0]))
    (finding,) = signing(load("quick"))
    assert finding.ok and finding.seen.startswith("by the key ")
    assert list(signing(load("quick", ["register.signing=never"]))) == []


def test_a_run_without_the_key_that_it_needs_is_not_started(tmp_path: Path, command, monkeypatch) -> None:
    arguments = ["run", "--corpus", "sample", "--home", tmp_path / "home", "--set", "register.signing=required"]
    code, _, err = command(*arguments)
    assert (code, "Every version must be signed" in err) == (2, True)
    assert not (tmp_path / "home").exists()
    monkeypatch.setenv(SIGNING_KEY, str(tmp_path / "none.pem"))
    code, _, err = command("run", "--corpus", "sample", "--home", tmp_path / "home")
    assert (code, "There is no signing key at this path" in err) == (2, True)
