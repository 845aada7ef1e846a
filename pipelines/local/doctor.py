"""Examines the environment, and says what each missing thing prevents."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.shared.base.failure import ExitCode, Failure
from components.shared.model.hardware import cores_granted
from components.shared.storage.store import open_store
from components.shared.tracking.local_address import sqlite_path
from pipelines.config.extras import REMEDY
from pipelines.local import machine
from pipelines.local.runners import docker_client

_FREE_BYTES = 2 << 30
_HUB = "huggingface.co"


@dataclass(frozen=True)
class Finding:
    """The result for one thing that was examined.

    Attributes:
        name: the thing.
        ok: whether it exists and works.
        seen: the state that was found, or the problem with its remedy.
        prevents: the commands or features that do not work without it.
        needed: whether the run requires it.
        exit_code: the exit code of a command that fails because of it.
    """

    name: str
    ok: bool
    seen: str
    prevents: str = ""
    needed: bool = True
    exit_code: int = ExitCode.FAILED


def python() -> Finding:
    seen = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", sys.version_info >= (3, 11), seen, "everything: 3.11 or later is needed")


def torch_build() -> Finding:
    """The build of torch. A laptop that only submits to a cluster needs none."""
    try:
        return Finding("torch", True, version("torch"))
    except PackageNotFoundError:
        return Finding("torch", False, f"not installed: {REMEDY}", "runs on this machine, `wikigpt generate`")


def cores() -> Finding:
    count = cores_granted()
    return Finding("Cores", True, f"{count} granted")


def gpu(needed: bool = False) -> Finding:
    count = machine.gpus()
    seen = f"{count} NVIDIA" if count else "none that torch can use"
    return Finding("GPU", count > 0, seen, "the profiles for a GPU; `quick` and `cpu` do without", needed)


def compiler(needed: bool = False) -> Finding:
    found = shutil.which("g++") or shutil.which("clang++")
    return Finding("C++ compiler", bool(found), found or "none", "profiles with train.compile on", needed)


def disk(folder: Path) -> Finding:
    existing = next(path for path in [folder, *folder.parents] if path.exists())
    free = shutil.disk_usage(existing).free
    return Finding(
        "Disk", free > _FREE_BYTES, f"{free / (1 << 30):.1f} GiB free at {existing}", "runs: 2 GiB should be free"
    )


def store(address: str) -> Finding:
    """Writes, reads and deletes a small object, since credentials may permit only some of these."""

    def use() -> str:
        opened = open_store(address)
        for time in ("first", "second"):
            opened.put_record("doctor", {"by": "wikigpt doctor", "time": time})
        opened.claimed("doctor")
        opened.release("doctor")
        if opened.keeps_versions:
            return f"{address}, which keeps old versions that these credentials may not delete: see docs/storage.md"
        return address

    return probe("Store", use, "every run: the steps pass artifacts through it")


def tracking(uri: str) -> Finding:
    """Reads experiments from MLflow. The first run creates a missing SQLite file."""

    def use() -> str:
        if (path := sqlite_path(uri)) and not path.exists():
            return f"{uri} (the first run creates it)"
        from components.shared.tracking.run import connect, translate_mlflow_errors

        client = connect(uri)
        with translate_mlflow_errors(client):
            client.search_experiments(max_results=1)
        return uri

    return probe("MLflow", use, "every run: it holds metrics and the registry")


def hub() -> Finding:
    """Whether the Hugging Face Hub can be reached within seconds."""
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT") or f"https://{_HUB}")
    host = endpoint.hostname or ""
    try:
        socket.create_connection((host, endpoint.port or 443), timeout=3).close()
    except (OSError, ValueError) as error:
        seen = f"{host}: {error}"
        return Finding(
            "Hugging Face Hub", False, seen, "corpora and pretrained weights by name; folders and s3:// work"
        )
    return Finding("Hugging Face Hub", True, host)


def docker() -> Finding:
    def use() -> str:
        return f"engine {docker_client(timeout=5).version()['Version']}"

    return probe("Docker", use, "`wikigpt run --runner docker`", needed=False)


def server(endpoint: str | None, namespace: str | None) -> Finding:
    """Reads the health and version of Kubeflow Pipelines, and checks the namespace in Kubernetes."""

    def use() -> str:
        from pipelines.cluster.access import resolve_access
        from pipelines.cluster.connection import connect
        from pipelines.cluster.namespaces import require_namespace

        cluster = connect(resolve_access(endpoint, namespace))
        require_namespace(cluster.access)
        return f"{cluster.version or 'a version that it does not tell'} at {cluster.address}"

    return probe("Kubeflow Pipelines", use, "`wikigpt submit` and the schedules")


def retries() -> Finding:
    """Whether the cluster retries failed steps. Steps retry transient errors themselves."""
    from pipelines.cluster.access import resolve_access
    from pipelines.cluster.examination import retries_of

    found = retries_of(resolve_access(None, None))
    lost = "a second attempt of a failed step; transient errors are retried within the step"
    return Finding("Retries", bool(found.in_force), found.seen, lost, needed=False)


def examine_cluster(endpoint: str | None, namespace: str | None) -> list[Finding]:
    """Examines what runs on a cluster need."""
    return [server(endpoint, namespace), retries()]


def examine(home: Path, store_address: str, tracking_uri: str) -> list[Finding]:
    """Examines everything that any command needs."""
    return [
        python(),
        torch_build(),
        cores(),
        gpu(),
        compiler(),
        disk(home),
        store(store_address),
        tracking(tracking_uri),
        hub(),
        docker(),
    ]


def exit_code(findings: list[Finding]) -> int:
    """The exit code of the first finding that is needed and not ok; 0 if there is none."""
    return next((int(finding.exit_code) for finding in findings if finding.needed and not finding.ok), ExitCode.OK)


def print_findings(findings: list[Finding], console: Console) -> None:
    """Prints one row per finding, with what a missing thing prevents."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(max_width=16, overflow="fold")
    table.add_column(overflow="fold")
    for finding in findings:
        mark = ("✓", "green") if finding.ok else ("✗", "red") if finding.needed else ("–", "yellow")
        seen = Text(finding.seen)
        if not finding.ok and finding.prevents:
            seen.append(f"\nprevents {finding.prevents}", style="dim")
        table.add_row(Text(*mark), finding.name, seen)
    console.print(table)


def probe(name: str, use: Callable[[], str], prevents: str, needed: bool = True) -> Finding:
    """The finding of a check, which returns what it found or raises."""
    try:
        return Finding(name, True, use(), prevents, needed)
    except Failure as failure:
        return Finding(name, False, str(failure), prevents, needed, failure.exit_code)
    except Exception as error:
        return Finding(name, False, f"{type(error).__name__}: {error}".splitlines()[0], prevents, needed)
