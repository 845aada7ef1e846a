"""`wikigpt doctor` and `wikigpt ui`."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from pipelines.commands import options
from pipelines.commands.options import HomeFolder, Json, Store


def add_commands(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    app.command()(doctor)
    app.command()(ui)


def doctor(home: HomeFolder = options.DEFAULT_HOME, store: Store = None, as_json: Json = False) -> None:
    """Look at Python, cores, GPU, disk, store, MLflow, Hub and Docker, and say what each missing thing prevents."""
    from pipelines.doctor import examine, print_findings
    from pipelines.run import tracking_uri

    opened, address = options.home_and_store(home, store)
    findings = examine(opened.root, address, tracking_uri(opened))
    ok = all(finding.ok or not finding.needed for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": ok, "findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        print_findings(findings, Console())
    if not ok:
        raise typer.Exit(1)


def ui(
    home: HomeFolder = options.DEFAULT_HOME,
    port: Annotated[int, typer.Option(help="Where MLflow listens, on 127.0.0.1.")] = 5000,
) -> None:
    """Open MLflow on what was recorded, until Ctrl-C."""
    opened = options.existing_home(home)
    typer.echo(f"MLflow on {opened.root}: http://127.0.0.1:{port}/#/models", err=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", opened.tracking_uri, "--artifacts-destination", str(opened.root / "mlartifacts")]
    os.execv(sys.executable, command + stores)
