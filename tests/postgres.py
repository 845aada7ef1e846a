"""A PostgreSQL cluster for tests, from Debian's package; the server refuses to run as root."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http_servers import free_port

_PROGRAMS = Path("/usr/lib/postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a running server with the database `mlflow`, on a free port of this machine."""
    programs = sorted(_PROGRAMS.glob("*/bin/initdb"))
    if not programs:
        pytest.skip("no PostgreSQL here: install Debian's package postgresql")
    if os.getuid() == 0 and shutil.which("runuser") is None:
        pytest.skip("PostgreSQL refuses to run as root, and there is no runuser here")
    folder = Path(tempfile.mkdtemp(prefix="wikigpt-postgres-"))
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    port = free_port()
    try:
        _run(programs[-1], "-D", folder / "data", "-U", "wikigpt", "--auth=trust", "--no-sync")
        server = programs[-1].with_name("pg_ctl")
        options = f"-c listen_addresses=127.0.0.1 -p {port} -c unix_socket_directories={folder} -c fsync=off"
        _run(server, "-D", folder / "data", "-l", folder / "log", "-o", options, "-w", "start")
        try:
            _run(server.with_name("createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "wikigpt", "mlflow")
            yield f"postgresql://wikigpt@127.0.0.1:{port}/mlflow"
        finally:
            _run(server, "-D", folder / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _run(*command: str | Path) -> None:
    as_postgres = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    subprocess.run([*as_postgres, *map(str, command)], check=True, stdout=subprocess.DEVNULL, timeout=60, cwd="/")
