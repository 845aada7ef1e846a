"""A server on this machine: HAProxy, and engines that are replaced, die and do not start."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from components.shared.base.failure import ExitCode, Failure
from pipelines.local.ports import require_free
from pipelines.serving.engine import Engine, EngineCommand
from pipelines.serving.proxy import HEADER, Proxy, require_proxy
from pipelines.serving.restarts import EndedTooOften
from pipelines.serving.serve_settings import ServeSettings
from pipelines.serving.server import Server
from pipelines.serving.smoke import Completion, Expected, Limits
from tests.http_servers import free_port
from tests.pipelines.serving.load import BODY, under_load

EXPECTED = Expected((Completion("The castle", " after The castle"),), max_tokens=4)
pytestmark = pytest.mark.usefixtures("haproxy")


@pytest.fixture
def model(tmp_path: Path) -> Callable[[str], Path]:
    """Makes the folder of a version."""

    def make(name: str) -> Path:
        folder = tmp_path / name / "wikigpt"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        return folder

    return make


@pytest.fixture
def server(stand_in: EngineCommand, tmp_path: Path) -> Iterator[Server]:
    settings = ServeSettings(port=free_port(), ready=10, drain=5, limits=Limits(requests=2, noise=1))
    server = Server("wikigpt", stand_in, tmp_path / "serving", settings, print)
    yield server
    server.close()


def test_the_traffic_moves_without_a_failed_request(server: Server, model: Callable[[str], Path]) -> None:
    server.roll_out("1", model("one"), EXPECTED)
    first = server.current
    assert first is not None
    with under_load(server.settings.port) as load:
        load.wait_for("wikigpt/1")
        server.roll_out("2", model("two"), EXPECTED)
        load.wait_for("wikigpt/2")
        moved = time.monotonic()
        time.sleep(0.3)
    assert load.failed == []
    assert load.versions() == ["wikigpt/1", "wikigpt/2"]
    assert {version for at, _, version in load.answers if at > moved} == {"wikigpt/2"}
    assert server.version == "2" and not first.engine.alive


def test_an_open_request_is_answered_by_the_old_version(server: Server, model: Callable[[str], Path]) -> None:
    one = model("one")
    server.roll_out("1", one, EXPECTED)
    (one.parent / "slow").write_text("0.6")
    with under_load(server.settings.port, threads=1) as load:
        time.sleep(0.3)
        server.roll_out("2", model("two"), EXPECTED)
        load.wait_for("wikigpt/2")
    assert load.failed == []
    assert load.versions() == ["wikigpt/1", "wikigpt/2"]


@pytest.mark.parametrize(
    ("marker", "said"),
    [("dies", "The server of version 2 ended by itself"), ("silent", "The server of version 2 did not answer within")],
)
def test_a_version_that_is_never_ready_changes_nothing(
    server: Server, model: Callable[[str], Path], marker: str, said: str
) -> None:
    server.roll_out("1", model("one"), EXPECTED)
    two = model("two")
    (two.parent / marker).touch()
    object.__setattr__(server.settings, "ready", 1.0)
    with under_load(server.settings.port, threads=1) as load, pytest.raises(Failure, match=said):
        server.roll_out("2", two, EXPECTED)
    assert load.failed == [] and load.versions() == ["wikigpt/1"]


def test_a_version_with_other_completions_changes_nothing(server: Server, model: Callable[[str], Path]) -> None:
    server.roll_out("1", model("one"), EXPECTED)
    other = Expected((Completion("The castle", " was built"),))
    with under_load(server.settings.port, threads=1) as load, pytest.raises(Failure, match="Only 0 of 1 completions"):
        server.roll_out("2", model("two"), other)
    assert load.failed == [] and load.versions() == ["wikigpt/1"]
    assert server.version == "1"


def test_a_version_that_is_no_longer_wanted_changes_nothing(server: Server, model: Callable[[str], Path]) -> None:
    def confirm() -> None:
        raise Failure("The alias moved on", where="wikigpt", remedy="wait")

    server.roll_out("1", model("one"), EXPECTED)
    with pytest.raises(Failure, match="moved on"):
        server.roll_out("2", model("two"), EXPECTED, confirm)
    assert server.version == "1"


def test_a_dead_engine_and_a_dead_proxy_are_started_again_a_few_times(
    server: Server, model: Callable[[str], Path]
) -> None:
    server.roll_out("1", model("one"), EXPECTED)
    for _ in range(2):
        assert server.current is not None
        os.killpg(server.current.engine.process.pid, signal.SIGKILL)
        server.current.engine.process.wait()
        server.supervise()
        with under_load(server.settings.port, threads=1) as load:
            load.wait_for("wikigpt/1")
    server.proxy.process.kill()
    server.proxy.process.wait()
    server.supervise()
    with under_load(server.settings.port, threads=1) as load:
        load.wait_for("wikigpt/1")
    server.proxy.process.kill()
    server.proxy.process.wait()
    with pytest.raises(EndedTooOften, match="The proxy ended by itself, after 3 restarts"):
        server.supervise()


def serve_one(server: Server, model: Callable[[str], Path]) -> tuple[Path, Engine]:
    """Serves version 1; returns the folder for what its engine is to do, and the engine."""
    one = model("one")
    server.roll_out("1", one, EXPECTED)
    assert server.current is not None
    return one.parent, server.current.engine


def test_an_old_version_that_cannot_be_started_again_does_not_stop_the_new_one(
    server: Server, model: Callable[[str], Path]
) -> None:
    beside, old = serve_one(server, model)
    (beside / "dies").touch()
    os.killpg(old.process.pid, signal.SIGKILL)
    old.process.wait()
    server.roll_out("2", model("two"), EXPECTED)
    with under_load(server.settings.port, threads=1) as load:
        load.wait_for("wikigpt/2")
    assert load.failed == [] and server.version == "2"


def test_a_proxy_that_ends_while_the_old_version_is_drained_changes_only_open_requests(
    server: Server, model: Callable[[str], Path]
) -> None:
    beside, old = serve_one(server, model)
    (beside / "slow").write_text("1")

    def kill_the_proxy() -> None:
        while server.version == "1":
            time.sleep(0.01)
        server.proxy.process.kill()

    killer = threading.Thread(target=kill_the_proxy)
    with under_load(server.settings.port, threads=2) as load:
        time.sleep(0.2)
        killer.start()
        server.roll_out("2", model("two"), EXPECTED)
        killer.join()
        load.wait_for("wikigpt/2")
    assert server.version == "2" and not old.alive
    assert load.answers[-1][1:] == (200, "wikigpt/2")


@pytest.mark.slow
def test_a_version_that_ends_while_the_old_one_is_drained_loses_the_traffic_again(
    server: Server, model: Callable[[str], Path]
) -> None:
    one, two = model("one"), model("two")
    server.roll_out("1", one, EXPECTED)
    (one.parent / "slow").write_text("0.5")
    with under_load(server.settings.port) as load:
        time.sleep(0.2)
        with pytest.raises(Failure, match="ended by itself as soon as it had the traffic") as raised:
            server.roll_out("2", two, EXPECTED, (two.parent / "dies").touch)
        returned = time.monotonic()
        time.sleep(1.5)
    assert raised.value.exit_code is ExitCode.FAILED and server.version == "1"
    assert {answer[1:] for answer in load.answers if answer[0] > returned + 1} == {(200, "wikigpt/1")}
    children = psutil.Process().children(recursive=True)
    assert sum("stand_in_engine" in " ".join(child.cmdline()) for child in children) == 1


def test_a_killed_command_leaves_no_process_and_no_port(tmp_path: Path, model: Callable[[str], Path]) -> None:
    port, stand_in = free_port(), Path(__file__).with_name("stand_in_engine.py")
    code = f"""
import time
from pathlib import Path
from pipelines.serving.engine import Engine, EngineCommand
from pipelines.serving.serve_settings import ServeSettings
from pipelines.serving.server import Server
from pipelines.serving.smoke import Expected
command = EngineCommand({f"{sys.executable} {stand_in} {{model}} {{port}}"!r})
server = Server("wikigpt", command, Path({str(tmp_path / "serving")!r}), ServeSettings(port={port}), print)
server.roll_out("1", Path({str(model("one"))!r}), Expected())
print("ready", flush=True)
time.sleep(60)
"""
    command = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None and command.stdout.readline() == "ready\n"
    started = psutil.Process(command.pid).children(recursive=True)
    assert len(started) == 2
    command.kill()
    command.wait()
    assert psutil.wait_procs(started, timeout=10)[1] == []
    require_free(port, "a test")


def test_a_port_in_use_is_one_sentence(server: Server, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"HAProxy cannot serve 127.0.0.1:.*Address already in use") as raised:
        Proxy.start("127.0.0.1", server.settings.port, "wikigpt", tmp_path)
    assert raised.value.exit_code is ExitCode.USAGE
    with pytest.raises(Failure, match=r"HAProxy cannot listen on port .*: Address already in use"):
        require_free(server.settings.port, "HAProxy")


def test_a_model_of_any_name_is_named_in_the_header(
    stand_in: EngineCommand, model: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = ServeSettings(port=free_port(), limits=Limits(requests=1))
    deep = tmp_path / ("a long path " * 15) / "serving"
    server = Server('a "model" of %[x] é', stand_in, deep, settings, print)
    try:
        server.roll_out("1", model("one"), EXPECTED)
        with under_load(settings.port, threads=1) as load:
            load.wait_for("a%20%22model%22%20of%20%25%5Bx%5D%20%C3%A9/1")
    finally:
        server.close()


def test_only_the_api_can_be_reached(server: Server, model: Callable[[str], Path]) -> None:
    server.roll_out("1", model("one"), EXPECTED)
    for path, status in [("/v1/completions", 200), ("/reset", 404), ("/load_model", 404), ("/v1", 404)]:
        connection = http.client.HTTPConnection("127.0.0.1", server.settings.port, timeout=10)
        connection.request("POST", path, BODY)
        response = connection.getresponse()
        assert (response.status, response.getheader(HEADER)) == (status, "wikigpt/1" if status == 200 else None), path
        connection.close()


def test_a_proxy_that_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(Failure, match=r"HAProxy is not installed.*apt-get install haproxy") as raised:
        require_proxy()
    assert raised.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("nonsense", "'nonsense' is no engine .*name transformers or vllm"),
        ("no-such-program {port}", "The engine no-such-program is not installed"),
        ("python {prot} {port}", "there is no field {prot}"),
        ("python '{port}", "No closing quotation"),
        ("{", "is no engine"),
    ],
)
def test_a_wrong_engine_is_one_sentence(engine: str, said: str) -> None:
    with pytest.raises(Failure, match=said) as raised:
        EngineCommand.of(engine, "cpu")
    assert raised.value.exit_code is ExitCode.USAGE


def test_an_engine_gets_no_credentials(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.serving.tied import start

    for name in ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "WIKIGPT_WEBHOOK", "HF_TOKEN"):
        monkeypatch.setenv(name, "Xsecret")
    start(["env"], tmp_path, tmp_path / "env.log").wait()
    said = (tmp_path / "env.log").read_text()
    assert "PYTHONUNBUFFERED=1" in said and "Xsecret" not in said
