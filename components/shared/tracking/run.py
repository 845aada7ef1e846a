"""The MLflow run of a pipeline run: it is found by a tag or created, and retries of a step use the same one.

This module uses only `MlflowClient`, because the fluent API would set a finished run back to RUNNING.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.base.events import emit
from components.shared.base.failure import ExitCode, Failure, first_line
from components.shared.base.redact import redact, redact_values
from components.shared.tracking.database_errors import database_failure
from components.shared.tracking.local_address import folder_address, sqlite_path
from components.shared.tracking.mlflow_database import ARTIFACTS, prepare_database
from components.shared.tracking.mlflow_filter import equals
from components.shared.tracking.mlflow_schema import schema_failure
from components.shared.tracking.mlflow_variables import check_address, check_mlflow_variables

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "wikigpt"
PIPELINE_RUN_TAG = "wikigpt.pipeline_run"
INJECTED_RUN_TAG = "wikigpt.kfp_mlflow_run"
PATIENCE = 60.0  # seconds that a step waits for an MLflow that does not answer; a restart of the server takes less
_PARAM_BATCH = 100
# MLflow's variables, and those that a compiled pipeline sets instead of them.
OWN_VARIABLES = {
    "MLFLOW_TRACKING_URI": "WIKIGPT_MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME": "WIKIGPT_MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD": "WIKIGPT_MLFLOW_TRACKING_PASSWORD",
}


class Tracking:
    """The MLflow run to which every step of a pipeline run writes."""

    def __init__(self, client: MlflowClient, run_id: str):
        self.client, self.run_id = client, run_id

    @classmethod
    def open(cls, pipeline_run: str, *, uri: str | None = None, patience: float | None = None) -> Tracking:
        """Finds the MLflow run of a pipeline run by its tag, or creates it.

        Args:
            pipeline_run: the id of the pipeline run, which is kept as a tag.
            uri: the tracking server or database; by default MLflow's own `MLFLOW_TRACKING_URI`.
            patience: see `connect`; by default `PATIENCE`.

        Raises:
            Failure: MLflow cannot be reached or reports an error.
        """
        client = connect(uri, patience=PATIENCE if patience is None else patience)
        with translate_mlflow_errors(client):
            experiment = _experiment(client)
            if found := find_run(client, experiment, pipeline_run):
                return cls(client, found)
            tags = {PIPELINE_RUN_TAG: pipeline_run, **_link_to_injected_run(client, experiment)}
            return cls(client, client.create_run(experiment, tags=tags, run_name=pipeline_run).info.run_id)

    def address(self, artifact: str) -> str:
        """The address of an artifact of the run in MLflow."""
        return f"runs:/{self.run_id}/{artifact}"

    def params(self, params: dict[str, Any]) -> None:
        """Logs parameters. A parameter that exists keeps its first value, because MLflow refuses another one."""
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params
        fresh = [Param(key, redact(str(value))[:6000]) for key, value in params.items() if key not in known]
        for start in range(0, len(fresh), _PARAM_BATCH):
            self.client.log_batch(self.run_id, params=fresh[start : start + _PARAM_BATCH])

    def metrics(self, metrics: dict[str, float]) -> None:
        """Logs metrics of the whole run, in one call."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(k, float(v), now, 0) for k, v in metrics.items()])

    def tags(self, tags: dict[str, Any]) -> None:
        """Sets tags, in one call."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(key, redact(str(value))[:5000]) for key, value in tags.items()])

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Uploads a file to the run."""
        self.client.log_artifact(self.run_id, str(path), folder)

    def finish(self, status: str) -> None:
        """Ends the run as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(self.run_id, status)


def use_own_variables() -> None:
    """Sets MLflow's variables to the address and credentials that the pipeline was compiled with.

    The pipeline passes them in its own variables: the MLflow plugin of Kubeflow Pipelines may inject MLflow's
    variables into every step (KEP-12862), and Kubernetes refuses a pod in which both set the same variable. The
    injected run belongs to one task, see `_link_to_injected_run`. `MLFLOW_WORKSPACE` is kept: MLflow itself reads it.
    """
    if not os.environ.get(OWN_VARIABLES["MLFLOW_TRACKING_URI"]):
        return
    for name in ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_TOKEN", *OWN_VARIABLES):
        os.environ.pop(name, None)
    for name, own in OWN_VARIABLES.items():
        if value := os.environ.get(own):
            os.environ[name] = value


def connect(uri: str | None = None, *, patience: float = 0.0) -> MlflowClient:
    """A client of the tracking server or database, after a server has answered.

    Args:
        uri: the address of the server or database.
        patience: seconds for which the request is retried while the server does not answer.

    Raises:
        Failure: the server does not answer or refuses access, the database belongs to another version of MLflow, or a
            variable of MLflow is wrong.
    """
    check_mlflow_variables()
    from mlflow import MlflowClient, get_tracking_uri
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

    uri = uri or get_tracking_uri()
    check_address(uri)
    attempts = Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, Failure) and e.exit_code is ExitCode.UNREACHABLE),
        stop=stop_after_delay(patience),
        wait=wait_random_exponential(multiplier=0.5, max=5),
        reraise=True,
    )
    if uri.startswith(("http://", "https://")):
        attempts(_probe, uri)
    elif not uri.startswith(("sqlite", "databricks")):
        attempts(_probe_database, uri)
    if path := sqlite_path(uri):
        prepare_database(path)
    # MLflow would also log the traceback of an error that it raises.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    with _connecting(uri):
        return MlflowClient(tracking_uri=uri)


@contextmanager
def _connecting(uri: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise Failure(
            f"The driver of this database is not installed: {error}",
            where=uri,
            remedy="install it, or fix MLFLOW_TRACKING_URI",
            exit_code=ExitCode.USAGE,
        ) from error
    except Exception as error:
        if failure := mlflow_failure(error, uri):
            raise failure from error
        raise


def find_run(client: MlflowClient, experiment: str, pipeline_run: str) -> str | None:
    """The id of the MLflow run of a pipeline run, or None."""
    condition, token = equals(f"tags.`{PIPELINE_RUN_TAG}`", pipeline_run), None
    while True:
        page = client.search_runs([experiment], condition or "", page_token=token)
        for run in page:
            if run.data.tags.get(PIPELINE_RUN_TAG) == pipeline_run:
                return run.info.run_id
        if not (token := page.token):
            return None


class translate_mlflow_errors:  # noqa: N801 -- a context manager
    """Translates errors that MLflow raises inside the block into a `Failure`."""

    def __init__(self, client: MlflowClient):
        self.where = client.tracking_uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and (failure := mlflow_failure(error, self.where)):
            raise failure from error


def mlflow_failure(error: Exception, where: str) -> Failure | None:
    """The failure for an error of MLflow or its database; None for any other error.

    Args:
        error: an exception of `mlflow`, `sqlalchemy`, `alembic` or `sqlite3`.
        where: the address of the server or database.
    """
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    # MLflow wraps an error of its database, which is the cause.
    cause = error.__cause__ if isinstance(error, MlflowException) else error
    if isinstance(cause, (SQLAlchemyError, sqlite3.Error)):
        return database_failure(cause, str(sqlite_path(where) or where))
    if isinstance(error, CommandError) and (unknown := re.search(r"revision identified by '(\w+)'", str(error))):
        return schema_failure(unknown[1], where)
    if isinstance(error, CommandError):
        return Failure(
            f"The database has no schema of MLflow: {redact(str(error))}",
            where=str(sqlite_path(where) or where),
            remedy="restore it from a backup, or choose another home or database",
        )
    if isinstance(error, MlflowException):
        refused = error.get_http_status_code() in (401, 403)
        return _refused(where, str(error)) if refused else _error_of(where, error)
    return None


def loggable_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run without secrets: without the section `notify` and the credentials in addresses."""
    return {section: redact_values(values) for section, values in settings.items() if section != "notify"}


def _error_of(uri: str, error: Exception) -> Failure:
    message = first_line(error)[:300]
    if found := re.search(r"out-of-date database schema \(found version (\w+), but expected \w+\)", message):
        return schema_failure(None if found[1] == "None" else found[1], uri)
    if "Database migration in unexpected state" in message:
        return Failure(
            "The database lacks tables of MLflow",
            where=str(sqlite_path(uri) or uri),
            remedy="restore it from a backup, or choose another home or database",
        )
    return Failure(
        f"MLflow answered: {message}",
        where=uri,
        remedy="correct what the message names, or MLFLOW_TRACKING_URI, and run again",
    )


def _link_to_injected_run(client: MlflowClient, experiment: str) -> dict[str, str]:
    """Tags that nest our run below the run that Kubeflow Pipelines created for this pipeline run, if it did.

    Kubeflow Pipelines injects the run of one task, whose parent is the run of the pipeline run. MLflow cannot show a
    parent in another experiment or on another server; in that case only a tag names it.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    injected = os.environ.get("MLFLOW_RUN_ID")
    if not injected:
        return {}
    try:
        task = client.get_run(injected)
    except MlflowException:
        return {INJECTED_RUN_TAG: injected}
    parent = task.data.tags.get(MLFLOW_PARENT_RUN_ID, injected)
    same_experiment = task.info.experiment_id == experiment
    return {INJECTED_RUN_TAG: parent} | ({MLFLOW_PARENT_RUN_ID: parent} if same_experiment else {})


def _experiment(client: MlflowClient) -> str:
    from mlflow.entities import LifecycleStage
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return client.create_experiment(name, artifact_location=_artifact_location(client.tracking_uri))
        except MlflowException:  # another run created it between the two calls
            if (known := client.get_experiment_by_name(name)) is None:
                raise
    if known.lifecycle_stage == LifecycleStage.DELETED:
        _restore(client, known.experiment_id, name)
    return known.experiment_id


def _restore(client: MlflowClient, experiment: str, name: str) -> None:
    """Restores a deleted experiment, which still reserves its name: without it no run could be recorded."""
    from mlflow.entities import LifecycleStage
    from mlflow.exceptions import MlflowException

    try:
        client.restore_experiment(experiment)
    except MlflowException:
        if client.get_experiment(experiment).lifecycle_stage == LifecycleStage.DELETED:
            raise
        return  # another run restored it between the two calls
    emit(
        "note",
        text=f"The experiment {name} was deleted in MLflow and is restored with its runs, since this run is recorded in"
        " it; set MLFLOW_EXPERIMENT_NAME to record runs in another one.",
    )


def _artifact_location(uri: str) -> str | None:
    """The artifact location without a server: beside the SQLite file, instead of the current folder of the command."""
    path = sqlite_path(uri)
    return folder_address(path.resolve().parent / ARTIFACTS) if path else None


def _probe(uri: str) -> None:
    import requests
    from mlflow.utils.credentials import read_mlflow_creds

    address = f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    user, password = read_mlflow_creds()
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = requests.get(
            address, auth=(user, password) if user and password else None, headers=headers, timeout=10
        )
    except requests.RequestException as error:
        raise Failure(
            f"MLflow does not answer: {type(error).__name__}",
            where=redact(uri),
            remedy="start the server, or fix MLFLOW_TRACKING_URI",
            exit_code=ExitCode.UNREACHABLE,
        ) from error
    if answer.status_code in (401, 403):
        raise _refused(uri, answer.text)
    if answer.status_code in (429, 502, 503, 504):
        raise Failure(
            f"MLflow, or the proxy before it, answers {answer.status_code}",
            where=redact(uri),
            remedy="see the log of the MLflow server",
            exit_code=ExitCode.UNREACHABLE,
        )


def _probe_database(uri: str) -> None:
    """Connects to the server of a database once; MLflow would retry a dead one for two minutes."""
    from sqlalchemy import create_engine

    with _connecting(uri):
        engine = create_engine(uri)
        try:
            engine.connect().close()
        finally:
            engine.dispose()


def _refused(uri: str, answer: str) -> Failure:
    where, user = redact(uri), os.environ.get("MLFLOW_TRACKING_USERNAME", "this user")
    if "Invalid Host header" in answer or "DNS rebinding" in answer:
        what = "MLflow refused the host name of this address (403)"
        remedy = "start the server with --allowed-hosts and this host in the list"
    elif "Permission denied" in answer:
        what = f"MLflow does not permit this to {user}: Permission denied"
        remedy = "let the administrator grant the permission on the experiment or the registered model"
    else:
        what = "MLflow refused the credentials"
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or fix the Secret that contains them"
    return Failure(what, where=where, remedy=remedy, exit_code=ExitCode.UNAUTHORISED)
