"""MLflow's own programs for tests: they listen on this machine only, and stop at the end of the block."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import requests

from tests.http_servers import free_port

PROGRAMS = Path(sys.executable).parent


@contextmanager
def serving(command: list[str], address: str, log: Path, environment: dict[str, str] | None = None) -> Iterator[str]:
    """Runs a server until the block ends, after it has answered at an address; yields that address's root."""
    # Commands of the environment find each other by PATH.
    variables = {**os.environ, "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}", **(environment or {})}
    with open(log, "wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=variables, cwd=log.parent, start_new_session=True
        )
    try:
        _wait(server, address, log)
        yield "/".join(address.split("/")[:3])
    finally:
        # If the server died, its own error has been raised already, and stopping it must not hide that.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, 9)
            server.wait()


def _wait(server: subprocess.Popen, address: str, log: Path, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            if requests.get(address, timeout=5).ok:
                return
        except requests.RequestException:
            time.sleep(0.3)
    raise AssertionError(f"{address} did not answer:\n{log.read_text()[-3000:]}")


@contextmanager
def mlflow_server(database: str, folder: Path, *options: str) -> Iterator[str]:
    """`mlflow server` on a database, artifacts below a folder; yields its address."""
    port = free_port()
    command = [str(PROGRAMS / "mlflow"), "server", "--backend-store-uri", database, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--default-artifact-root", str(folder / "mlartifacts"), *options]
    with serving(command, f"http://127.0.0.1:{port}/health", folder / "mlflow-server.log") as address:
        yield address
