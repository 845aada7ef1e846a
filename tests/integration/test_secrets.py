"""No command and no step shows a secret, whatever fails.

Every address and every variable that may hold a secret holds one; the services behind them answer 503, time out, or
refuse the connection. Logs, store, MLflow, notices and the arguments of processes are searched.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import psutil
import pytest
import typer.main

from pipelines.cli.app import app
from tests.e2e.conftest import TINY, environment
from tests.http_servers import free_port, serving
from tests.signing import make_keys

pytestmark = pytest.mark.slow

SECRETS = {
    "AWS_ACCESS_KEY_ID": "Xs3keyid0",
    "AWS_SECRET_ACCESS_KEY": "Xs3secret1",
    "AWS_SESSION_TOKEN": "Xs3token2",
    "MLFLOW_TRACKING_PASSWORD": "Xmlflow3",
    "WIKIGPT_SIGNING_KEY_PASSWORD": "Xphrase11",
    "WIKIGPT_WEBHOOK": "http://127.0.0.1:{port}/hooks/Xwebhook4",
    "HF_TOKEN": "Xhub5token",
    "KF_PIPELINES_TOKEN": "Xkfp6token",
    "KF_PIPELINES_COOKIES": "session=Xcookie7",
}
IN_ADDRESSES = ("Xuser8:Xpass9", "Xquery10")
WORDS = [word.rpartition("/")[2].rpartition("=")[2].encode() for word in SECRETS.values()]
WORDS += [b"Xuser8", b"Xpass9", b"Xquery10"]
IMAGE = "registry.example/wikigpt@sha256:" + "a" * 64


@pytest.fixture(scope="module")
def answers_503() -> Iterator[int]:
    """A server that answers everything with 503 and repeats what it was asked for, as chatty proxies do."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = f"503: {self.path}".encode()
            self.send_response(503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = answer  # noqa: N815

    with serving(Handler) as address:
        yield int(address.rpartition(":")[2])


@pytest.fixture(scope="module")
def refuses() -> int:
    return free_port()


@pytest.fixture(scope="module")
def hangs() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield listener.getsockname()[1]


def variables(port: int, *, services: bool) -> dict[str, str]:
    """Secrets everywhere; with `services`, store and MLflow are behind the failing port too."""
    address = f"http://{IN_ADDRESSES[0]}@127.0.0.1:{port}"
    found = {name: value.format(port=port) for name, value in SECRETS.items()}
    found |= {"AWS_MAX_ATTEMPTS": "1", "AWS_REGION": "us-east-1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    found |= {"HF_ENDPOINT": address, "KF_PIPELINES_ENDPOINT": address, "HF_HUB_OFFLINE": ""}
    if services:
        found |= {"MLFLOW_TRACKING_URI": address, "WIKIGPT_STORE": "s3://bucket/store"}
        found |= {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}"}
    return found


def run(arguments: list[str], variables: dict[str, str], timeout: float = 240) -> tuple[int, bytes, set[str]]:
    """Exit code, everything printed, and the command lines of every process that it started."""
    lines: set[str] = set()
    command = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(**variables),
    )
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            try:
                for process in [psutil.Process(command.pid), *psutil.Process(command.pid).children(recursive=True)]:
                    lines.add(" ".join(process.cmdline()))
            except psutil.Error:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        out, _ = command.communicate(timeout=timeout)
    finally:
        command.kill()
        over.set()
        watcher.join()
    return command.returncode, out, lines


def assert_nothing_is_shown(out: bytes, lines: set[str], *folders: Path) -> None:
    for word in WORDS:
        assert word not in out, out.decode(errors="replace")[-3000:]
        # The arguments of the command are the user's; the processes that it starts must not repeat them.
        assert not [line for line in lines if word.decode() in line and "pipelines.cli" not in line]
        for folder in folders:
            for path in folder.rglob("*"):
                if path.is_file():
                    assert word not in path.read_bytes(), path


COMMANDS = {
    "run": ["--profile", str(TINY)],
    "check": ["--profile", str(TINY)],
    "sweep": ["--profile", str(TINY), "--set", "train.learning_rate=[0.001, 0.01]"],
    "models": [],
    "history": [],
    "promote": ["1", "--reason", "better"],
    "rollback": ["--reason", "worse"],
    "export": ["champion", "exported"],
    "generate": ["The castle"],
    "rollout": [],
    "serve": ["--follow", "--port", "18000"],
    "ensemble": ["1", "2"],
    "verify": ["1", "--public-key", "key.public.pem"],
    "sign": ["1", "--key", "key.pem"],
    "compile": ["--profile", "quick", "-o", "pipeline.yaml"],
    "mirror": ["--profile", "quick"],
    "gc": [],
    "reproduce": ["1"],
    "doctor": [],
    "submit": ["--profile", "quick", "--image", IMAGE],
    "status": ["4e928f31-a2c6-4619-a369-7435c5f19ef7"],
    "logs": ["4e928f31-a2c6-4619-a369-7435c5f19ef7"],
    "cancel": ["4e928f31-a2c6-4619-a369-7435c5f19ef7"],
    "schedule apply": ["--image", IMAGE],
    "schedule list": [],
    "schedule pause": ["nightly"],
    "schedule resume": ["nightly"],
    "schedule delete": ["nightly"],
    "schedule trigger": ["nightly"],
}
SERVERS = {"ui"}  # they run until they are stopped, see below


def test_every_command_is_tried() -> None:
    group = typer.main.get_command(app)
    names = set()
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        names |= {f"{name} {inner}" for inner in command.commands} if hasattr(command, "commands") else {name}
    assert names == COMMANDS.keys() | SERVERS


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_shows_a_secret_when_every_service_answers_503(name, answers_503, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_keys(tmp_path, passphrase=SECRETS["WIKIGPT_SIGNING_KEY_PASSWORD"].encode())
    repository = Path(__file__).parents[2]
    given = [*name.split(), *COMMANDS[name]]
    if name.startswith("schedule") and name.split()[1] in ("apply", "list"):
        given += ["--from", str(repository / "infra" / "schedules")]
    told = variables(answers_503, services=True) | {"PYTHONPATH": str(repository), "WIKIGPT_HOME": str(tmp_path / "h")}
    code, out, lines = run(given, told)
    assert code != 0 or name == "compile", out.decode()
    assert_nothing_is_shown(out, lines, tmp_path)


@pytest.mark.parametrize("port", ["answers_503", "refuses", "hangs"])
def test_no_step_shows_a_secret_when_the_corpus_and_the_webhook_fail(port, request, tmp_path) -> None:
    number = request.getfixturevalue(port)
    corpus = f"http://{IN_ADDRESSES[0]}@127.0.0.1:{number}/corpus.zip?part=1&token={IN_ADDRESSES[1]}"
    home = tmp_path / "h"
    arguments = ["run", "--profile", str(TINY), "--home", str(home), "--corpus", corpus, "--set", "notify.timeout=1"]
    code, out, lines = run(arguments, variables(number, services=False), timeout=400)
    assert code != 0
    assert b"part=1" in out, "what identifies the data stays"
    assert any("kfp.dsl.executor_main" in line for line in lines)
    assert_nothing_is_shown(out, lines, home)
    assert list(home.glob("store/claims/steps/*/download.json"))


@pytest.mark.parametrize("port", ["refuses", "hangs"])
def test_no_step_shows_a_secret_when_store_and_mlflow_are_away(port, request, tmp_path) -> None:
    told = variables(request.getfixturevalue(port), services=True)
    home = tmp_path / "h"
    code, out, lines = run(["run", "--profile", str(TINY), "--home", str(home)], told, timeout=500)
    assert code == 3, out.decode()
    assert_nothing_is_shown(out, lines, home)


def test_the_server_of_mlflow_is_started_without_the_password_of_its_database(tmp_path) -> None:
    told = {"MLFLOW_TRACKING_URI": "postgresql://Xuser8:Xpass9@127.0.0.1:9/mlflow", "PYTHONPATH": str(Path.cwd())}
    home = ["--home", str(tmp_path / "h"), "--port", str(free_port())]
    command = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "ui", *home],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(**told),
    )
    try:
        until = time.monotonic() + 60
        line = ""
        while "mlflow server" not in line and time.monotonic() < until and command.poll() is None:
            line = " ".join(psutil.Process(command.pid).cmdline())
            time.sleep(0.05)
        assert "mlflow server" in line and "Xpass9" not in line
    finally:
        command.kill()
        out, _ = command.communicate()
    assert b"Xpass9" not in out
