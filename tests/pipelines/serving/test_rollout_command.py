"""`wikigpt rollout` with a kubeconfig, a registry of MLflow and an engine, all over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import ExitCode
from components.shared.tracking import registry
from pipelines.serving import rollout
from pipelines.serving.smoke import Expected
from tests.http_servers import free_port, serving
from tests.kfp_stand_in.fixtures import VARIABLES
from tests.pipelines.conftest import Command
from tests.pipelines.serving.stand_in import World, handler_of

NAME = "wikigpt-sample"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Two pods serve version 1; a kubeconfig leads to them. Time passes with the requests."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(rollout, "_POLL", 0.001)
    monkeypatch.setattr(rollout, "SETTLE", 1)
    made = World(2, "1")
    made.address, made.seconds_per_request = "127.0.0.1", 1.0
    config = tmp_path / ".kube" / "config"
    config.parent.mkdir()
    with serving(handler_of(made)) as address:
        clusters = (
            f"clusters: [{{name: here, cluster: {{server: {address}}}}}]\nusers: [{{name: me, user: {{token: t}}}}]"
        )
        contexts = "contexts: [{name: here, context: {cluster: here, user: me}}]\ncurrent-context: here"
        config.write_text(f"apiVersion: v1\nkind: Config\n{clusters}\n{contexts}\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        yield made


class Engine(BaseHTTPRequestHandler):
    """An engine that answers a prompt by the text that is known for it."""

    texts: ClassVar[dict[str, str]]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        content = json.dumps({"choices": [{"text": self.texts.get(asked["prompt"], "")}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def engine(filled: MlflowClient) -> Iterator[tuple[type[Engine], int]]:
    """An engine that serves version 2, on which the alias is."""
    filled.set_registered_model_alias(NAME, "champion", "2")
    expected = Expected.of(filled, filled.get_model_version(NAME, "2"))
    assert expected.completions

    class Own(Engine):
        texts: ClassVar[dict[str, str]] = {each.prompt: each.text for each in expected.completions}

    with serving(Own) as address:
        yield Own, urlsplit(address).port or 0


def champion(client: MlflowClient) -> str | None:
    found = registry.version_with_alias(client, NAME, "champion")
    return str(found.version) if found else None


def test_the_champion_is_rolled_out_and_shown(
    command: Command,
    world: World,
    engine: tuple[type[Engine], int],
    tmp_path: Path,
) -> None:
    home = ("--home", tmp_path / "home", "--port", engine[1])
    code, out, err = command("rollout", "--plan", *home)
    assert (code, out.partition("\n")[0]) == (0, "start one pod of version 2 beside version 1"), err
    code, out, err = command("rollout", *home)
    assert (code, out) == (0, "Version 2 of wikigpt-sample is live.\n"), err
    assert "Version 2 is live; it replaces version 1." in err
    code, out, _ = command("history", "--json", *home[:2])
    newest = json.loads(out)[0]
    assert (newest["version"], newest["how"]) == ("2", "click")
    assert newest["number"] is not None, "it is on record"
    assert {pod.version for pod in world.pods()} == {"2"}
    code, out, _ = command("rollout", "--status", "--json")
    shown = json.loads(out)
    assert (code, shown["version"], shown["rollout"]) == (0, "2", None)
    assert shown["pods"] == {"2": {"pods": 2, "ready": 2}}
    code, out, _ = command("rollout", "--json", *home)
    assert (code, json.loads(out)) == (0, {"model": NAME, "version": "2"})
    code, out, _ = command("rollout", "--plan", *home)
    assert (code, out) == (0, "There is nothing to change.\n")


def test_a_server_with_other_answers_is_taken_back_with_the_alias(
    command: Command,
    world: World,
    engine: tuple[type[Engine], int],
    filled: MlflowClient,
    tmp_path: Path,
) -> None:
    engine[0].texts.clear()
    code, out, err = command("rollout", "--home", tmp_path / "home", "--port", engine[1])
    assert (code, out) == (ExitCode.FAILED, "")
    assert "Version 2 failed its rollout: Only 0 of 4 completions begin as those that were recorded" in err
    assert {pod.version for pod in world.pods() if pod.ready_at} == {"1"}
    assert champion(filled) == "1"
    assert "wikigpt.rollout_failed" in filled.get_model_version(NAME, "2").tags


def test_pods_that_cannot_be_reached_from_here_say_nothing_against_the_version(
    command: Command,
    world: World,
    filled: MlflowClient,
    tmp_path: Path,
) -> None:
    filled.set_registered_model_alias(NAME, "champion", "2")
    code, _, err = command("rollout", "--home", tmp_path / "home", "--port", free_port())
    assert code == ExitCode.UNREACHABLE
    assert "is ready, and cannot be reached from here" in err
    assert champion(filled) == "2"
    assert world.count("1") == 2


def test_no_kubeconfig_and_no_champion(
    command: Command,
    world: World,
    filled: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filled.delete_registered_model_alias(NAME, "champion")
    code, _, err = command("rollout", "--home", tmp_path / "home")
    assert (code, "No version of wikigpt-sample has the alias champion" in err) == (ExitCode.FAILED, True)
    assert world.version == "1"
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    code, _, err = command("rollout", "--status")
    assert (code, "Kubernetes cannot be used: there is no kubeconfig" in err) == (ExitCode.USAGE, True)
