"""`wikigpt doctor` and `wikigpt ui`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from components.shared.base.ranges import Range
from components.shared.base.redact import redact
from components.shared.tracking.local_address import folder_address, sqlite_path
from components.shared.tracking.mlflow_database import ARTIFACTS, prepare_database
from components.shared.tracking.mlflow_variables import check_address, check_mlflow_variables
from pipelines.cli import options
from pipelines.cli.cluster_options import Endpoint, Namespace
from pipelines.cli.limits import within
from pipelines.cli.options import HomeFolder, Json, Store
from pipelines.cli.screen import console, print_json
from pipelines.config.paths import absolute
from pipelines.local.home import existing_tracking_uri, tracking_uri
from pipelines.local.ports import require_free


def doctor(
    home: HomeFolder = options.DEFAULT_HOME,
    store: Store = None,
    cluster: Annotated[
        bool,
        typer.Option("--cluster", help="Examine the cluster: the server, its version, and whether it retries steps."),
    ] = False,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    as_json: Json = False,
) -> None:
    """Examine Python, cores, GPU, disk, store, MLflow, Hub and Docker, and say what each missing thing prevents."""
    from pipelines.local.doctor import examine, examine_cluster, exit_code, print_findings

    if cluster:
        findings = examine_cluster(endpoint, namespace)
    else:
        opened, address = options.home_and_store(home, store)
        findings = examine(opened.root, address, tracking_uri(opened))
    if as_json:
        print_json({"ok": not exit_code(findings), "findings": findings})
    else:
        print_findings(findings, console())
    raise typer.Exit(exit_code(findings))


def ui(
    home: HomeFolder = options.DEFAULT_HOME,
    port: Annotated[
        int, typer.Option(callback=within(Range(1, 65_535)), help="The port of 127.0.0.1 that MLflow listens on.")
    ] = 5000,
) -> None:
    """Start MLflow's user interface until Ctrl-C. If a server is set, print its address instead."""
    check_mlflow_variables()
    recorded = existing_tracking_uri(home)
    check_address(recorded)
    if recorded.startswith(("http://", "https://")):
        typer.echo(f"MLflow is at {redact(recorded)}", err=True)
        return
    require_free(port, "MLflow")  # MLflow would start, fail to listen, and exit with code 0
    database = sqlite_path(recorded)
    if database is not None:
        prepare_database(database)  # MLflow's server would create it too, but not safely with other processes
    artifacts = (database.parent if database else absolute(home, "--home")) / ARTIFACTS
    typer.echo(f"MLflow on {redact(recorded)}: http://127.0.0.1:{port}/#/models", err=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # The address may hold a password, and every user of this machine can read arguments.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": recorded}
    os.execve(sys.executable, [*command, "--artifacts-destination", folder_address(artifacts)], environment)
