"""`wikigpt serve` as a process, with the engine that starts at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import ExitCode
from components.shared.tracking import registry
from components.shared.tracking.champion_moves import champion_state
from pipelines.local.home import open_home
from pipelines.local.ports import require_free
from pipelines.registry.references import resolve
from pipelines.serving.folder import served_folder
from tests.http_servers import free_port, serving
from tests.pipelines.conftest import Command, command  # noqa: F401
from tests.pipelines.serving.conftest import NAME, STAND_IN, record
from tests.pipelines.serving.load import under_load
from tests.servers import mlflow_server

ENGINE = f"{sys.executable} {STAND_IN} {{model}} {{port}}"
pytestmark = pytest.mark.usefixtures("haproxy")


@contextmanager
def serve(home: Path, port: int, *options: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Runs the command; yields it with the lines that it has printed so far when it serves."""
    arguments = [sys.executable, "-m", "pipelines.cli", "serve", "--home", str(home), "--port", str(port), *options]
    process = subprocess.Popen([*arguments, "--engine", ENGINE], stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr is not None
    lines: list[str] = []
    try:
        while not any("is served by version" in line for line in lines):
            lines.append(process.stderr.readline())
            assert lines[-1], f"it ended: {lines}"
        yield process, lines
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, ExitCode.CTRL_C), (signal.SIGTERM, ExitCode.OK)])
def test_a_signal_drains_and_stops_everything(
    local: MlflowClient, tmp_path: Path, number: signal.Signals, code: ExitCode
) -> None:
    port = free_port()
    with serve(tmp_path / "home", port, "2") as (process, _):
        with under_load(port, threads=2) as load:
            load.wait_for(f"{NAME}/2")
            answered = len(load.answers)
            time.sleep(0.2)
        assert load.failed == [] and len(load.answers) > answered
        process.send_signal(number)
        assert process.wait(20) == code
    require_free(port, "a test")


def test_two_commands_on_one_port_are_one_sentence(
    local: MlflowClient,
    tmp_path: Path,
    command: Command,  # noqa: F811
) -> None:
    port = free_port()
    with serve(tmp_path / "home", port):
        code, _, said = command("serve", "--home", tmp_path / "home", "--port", port, "--engine", ENGINE)
        assert code == ExitCode.USAGE
        assert f"HAProxy cannot listen on port {port}: Address already in use" in said
        with under_load(port, threads=1) as load:
            load.wait_for(f"{NAME}/1")
        assert load.failed == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nobody"], "There is no alias 'nobody'"),
        (["--follow", "1"], "1 is not the alias champion"),
        (["--follow", "challenger"], "challenger is not the alias champion"),
        (["--host", "example.org"], "'example.org' is no IP address"),
        (["--engine", "nonsense"], "'nonsense' is no engine"),
    ],
)
def test_wrong_options_are_one_sentence_and_start_nothing(
    local: MlflowClient,
    tmp_path: Path,
    command: Command,  # noqa: F811
    options: list[str],
    said: str,
) -> None:
    engine = [] if "--engine" in options else ["--engine", ENGINE]
    code, _, printed = command("serve", "--home", tmp_path / "home", "--port", free_port(), *engine, *options)
    assert (code, printed.count("\n")) == (ExitCode.USAGE, 1)
    assert said in printed
    assert not (tmp_path / "home").exists()


def test_gc_removes_a_version_that_is_not_served(
    local: MlflowClient,
    tmp_path: Path,
    command: Command,  # noqa: F811
) -> None:
    home = open_home(tmp_path / "home")
    old = served_folder(local, resolve(local, "2", NAME), home.served_versions).parent
    with serve(home.root, free_port()):
        for folder in home.served_versions.iterdir():
            os.utime(folder, (0, 0))
        time.sleep(1.5)
        code, out, _ = command("gc", "--apply", "--days", "0.01", "--home", home.root)
        (served,) = home.served_versions.iterdir()
    assert code == 0 and str(old) in out and served != old


def test_a_champion_without_files_is_one_sentence_and_leaves_no_server(
    local: MlflowClient,
    tmp_path: Path,
    command: Command,  # noqa: F811
) -> None:
    (tmp_path / "logged-1" / "model" / "config.json").unlink()
    port = free_port()
    code, _, said = command("serve", "--home", tmp_path / "home", "--port", port, "--engine", ENGINE)
    assert (code, said.count("\n")) == (ExitCode.FAILED, 1)
    assert "The version has no model: there is no config.json" in said
    require_free(port, "a test")


@pytest.mark.slow
def test_a_click_that_is_refused_is_recorded_once(
    local: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIKIGPT_PROMOTERS", "grace")
    port = free_port()
    with serve(tmp_path / "home", port, "--follow"), under_load(port, threads=1) as load:
        local.set_registered_model_alias(NAME, "champion", "2")
        until = time.monotonic() + 20
        while champion_state(local, NAME).unrecorded() is not None:
            assert time.monotonic() < until
            time.sleep(0.1)
        time.sleep(1.5)
    moves = champion_state(local, NAME).moves
    assert (moves[-1].how, moves[-1].version) == ("click", "2")
    assert len([move for move in moves if move.how == "click"]) == 1
    assert load.failed == [] and load.versions() == [f"{NAME}/1"]


@pytest.mark.slow
def test_the_registry_of_a_server_is_followed_and_a_failing_version_is_taken_back_there(
    local: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    notices = tmp_path / "notices"
    with mlflow_server(local.tracking_uri, tmp_path) as address, webhook(notices) as hook:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("WIKIGPT_WEBHOOK", hook)
        with serve(tmp_path / "home", port, "--follow") as (process, _), under_load(port, threads=1) as load:
            local.set_registered_model_alias(NAME, "champion", "2")
            load.wait_for(f"{NAME}/2", seconds=60)
            record(tmp_path / "logged-1", " before")
            local.set_registered_model_alias(NAME, "champion", "1")
            until = time.monotonic() + 60
            while str(local.get_model_version_by_alias(NAME, "champion").version) != "2":
                assert time.monotonic() < until and process.poll() is None
                time.sleep(0.1)
    assert load.failed == [] and load.versions() == [f"{NAME}/1", f"{NAME}/2"]
    assert "Only 0 of 1 completions" in local.get_model_version(NAME, "1").tags[registry.ROLLOUT_FAILED]
    assert f"Version 1 of {NAME} failed its rollout" in notices.read_text()


@contextmanager
def webhook(file: Path) -> Iterator[str]:
    """A webhook that appends what it gets to a file."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with open(file, "ab") as stream:
                stream.write(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Handler) as address:
        yield f"{address}/hooks/secret"
