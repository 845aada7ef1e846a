"""`wikigpt serve --follow` under load: a home with versions to promote, the command, locust, and what locust noted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from components.shared.tracking import registry
from components.shared.tracking.mlflow_database import prepare_database
from components.shared.tracking.run import EXPERIMENT
from pipelines.local.home import Home, open_home
from tests.registry import another_model, make_folders, make_step, register

MODEL = "wikigpt"
LOCUSTFILE = Path(__file__).with_name("completions_load.py")
USERS = 100
PROGRAMS = Path(sys.executable).parent


def make_home(root: Path, model: Path) -> Home:
    """A home with three versions: 1 is the champion, 2 is sound, and the weights of 3 are damaged.

    The weights of 3 were changed before they were registered, so that their digest is right and every check of a file
    passes: only the completions, which are those of version 1, tell that something is wrong.
    """
    home = open_home(root)
    prepare_database(home.database)
    client = MlflowClient(home.tracking_uri)
    client.create_experiment(EXPERIMENT, artifact_location=str(home.root / "mlartifacts"))
    before = dict(os.environ)
    os.environ.update(MLFLOW_TRACKING_URI=home.tracking_uri, WIKIGPT_STORE=str(home.store))
    try:
        first = make_folders(root.with_name("first"), model, reuse_key="1" * 32, nll_per_word=4.7, model_name=MODEL)
        register(make_step("run-1"), first)
        register(make_step("run-2"), another_model(first, root.with_name("second"), "2" * 32, 4.72))
        third = another_model(first, root.with_name("third"), "3" * 32, 4.74, weights=2000)
        register(make_step("run-3"), third)
    finally:
        os.environ.clear()
        os.environ.update(before)
    shutil.copyfile(_completions(client, "1"), _completions(client, "3"))
    return home


def _completions(client: MlflowClient, number: str) -> Path:
    source = client.get_model_version(MODEL, number).source
    return Path(client.get_logged_model(source.removeprefix("models:/")).artifact_location) / registry.COMPLETIONS


@contextmanager
def serve_following(home: Home, port: int, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `wikigpt serve --follow` until the block ends, which asks it to stop; yields it when it serves."""
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--follow", "--home", str(home.root)]
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "WIKIGPT_"))}
    with open(log, "wb") as output:
        started = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu", *options], stdout=output, stderr=output, env=variables
        )
    try:
        wait_until(lambda: started.poll() is not None or "is served by version" in log.read_text(), "it serves", log)
        assert started.poll() is None, log.read_text()
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(60)
        finally:
            started.kill()


@dataclass(frozen=True)
class Request:
    """A line that locust noted: time of the answer, the version that it names, success, milliseconds."""

    at: float
    version: str | None
    success: bool
    milliseconds: float


@dataclass(frozen=True)
class Load:
    """The requests of a running or ended locust."""

    file: Path

    def requests(self) -> list[Request]:
        """All requests so far, by the time of their answers."""
        lines = self.file.read_text().splitlines() if self.file.is_file() else []
        return sorted((Request(*json.loads(line)) for line in lines), key=lambda request: request.at)

    def latest(self) -> set[str | None]:
        """The versions of the answers of the last second."""
        now = time.time()
        return {request.version for request in self.requests() if request.at > now - 1}


@contextmanager
def locust(address: str, rate: float, folder: Path) -> Iterator[Load]:
    """Sends completions at a rate until the block ends, and then waits for the open ones."""
    load, log = Load(folder / "requests.jsonl"), folder / "locust.log"
    variables = {"WIKIGPT_LOAD_RATE": str(rate), "WIKIGPT_LOAD_FILE": str(load.file), "WIKIGPT_LOAD_USERS": str(USERS)}
    command = [str(PROGRAMS / "locust"), "-f", str(LOCUSTFILE), "--headless", "-H", address]
    command += ["-u", str(USERS), "-r", str(USERS)]
    with open(log, "wb") as output:
        started = subprocess.Popen(
            [*command, "--stop-timeout", "20", "--only-summary"],
            stdout=output,
            stderr=output,
            env={**os.environ, **variables},
            cwd=folder,
        )
    try:
        wait_until(lambda: started.poll() is not None or bool(load.requests()), "locust sends", log)
        assert started.poll() is None, log.read_text()
        yield load
    finally:
        started.terminate()
        try:
            started.wait(60)
        finally:
            started.kill()


def wait_until(happened: Callable[[], bool], what: str, log: Path, seconds: float = 120) -> float:
    """Waits; returns the time.

    Raises:
        AssertionError: it did not happen. The message has the end of the log.
    """
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, f"{what}: not within {seconds:g} s\n{log.read_text()[-3000:]}"
        time.sleep(0.1)
    return time.time()
