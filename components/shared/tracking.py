"""The MLflow run of a pipeline run: found by tag or made, never started twice, whatever is retried.

Everything goes through `MlflowClient`: the fluent API would flip a finished run back to RUNNING.
"""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from components.shared.failure import ExitCode, Failure
from components.shared.redact import redact, redact_values

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "wikigpt"
PIPELINE_RUN_TAG = "wikigpt.pipeline_run"
INJECTED_RUN_TAG = "wikigpt.kfp_mlflow_run"
PATIENCE = 60.0  # seconds that a step waits for an MLflow that does not answer; a server restarts in less
_PARAM_BATCH = 100
# MLflow's variables, and the ones that a placed pipeline sets in their stead.
OWN_VARIABLES = {
    "MLFLOW_TRACKING_URI": "WIKIGPT_MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_USERNAME": "WIKIGPT_MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD": "WIKIGPT_MLFLOW_TRACKING_PASSWORD",
}


class Tracking:
    """One MLflow run, written to by every step of a pipeline run."""

    def __init__(self, client: MlflowClient, run_id: str):
        self.client, self.run_id = client, run_id

    @classmethod
    def open(cls, pipeline_run: str, *, uri: str | None = None, patience: float | None = None) -> Tracking:
        """Finds the MLflow run of a pipeline run by its tag, or makes it: one, whatever is retried or injected.

        Args:
            pipeline_run: the identity of the pipeline run, kept as a tag.
            uri: the tracking server or database; by default MLflow's own `MLFLOW_TRACKING_URI`.
            patience: see `connect`; by default `PATIENCE`.

        Raises:
            Failure: MLflow cannot be reached or refuses.
        """
        client = connect(uri, patience=PATIENCE if patience is None else patience)
        with plainly(client):
            experiment = _experiment(client)
            if found := find_run(client, experiment, pipeline_run):
                return cls(client, found)
            tags = {PIPELINE_RUN_TAG: pipeline_run, **_link_to_injected_run(client, experiment)}
            return cls(client, client.create_run(experiment, tags=tags, run_name=pipeline_run).info.run_id)

    def address(self, artifact: str) -> str:
        """Where an artifact of the run is found in MLflow."""
        return f"runs:/{self.run_id}/{artifact}"

    def params(self, params: dict[str, Any]) -> None:
        """Logs parameters; one that a retry changed is kept as it was first logged, since MLflow refuses another."""
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params
        fresh = [Param(key, redact(str(value))[:6000]) for key, value in params.items() if key not in known]
        for start in range(0, len(fresh), _PARAM_BATCH):
            self.client.log_batch(self.run_id, params=fresh[start : start + _PARAM_BATCH])

    def metrics(self, metrics: dict[str, float], *, step: int = 0) -> None:
        """Logs metrics of one step, in one call."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[Metric(k, float(v), now, step) for k, v in metrics.items()])

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
    """Gives MLflow the address and the credentials that the pipeline was placed with.

    They come in variables of our own: Kubeflow Pipelines' MLflow plugin may inject MLflow's variables into every step
    (KEP-12862), and a variable that both set makes a pod that Kubernetes refuses. The run that it injects belongs to
    one task, see `_link_to_injected_run`; `MLFLOW_WORKSPACE` is read by MLflow itself and stays.
    """
    if not os.environ.get(OWN_VARIABLES["MLFLOW_TRACKING_URI"]):
        return
    for name in ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_TOKEN", *OWN_VARIABLES):
        os.environ.pop(name, None)
    for name, own in OWN_VARIABLES.items():
        if value := os.environ.get(own):
            os.environ[name] = value


def connect(uri: str | None = None, *, patience: float = 0.0) -> MlflowClient:
    """A client of the tracking server, after a server at an http address has answered.

    Args:
        uri: of the server or database.
        patience: seconds for which a server that does not answer is asked again.

    Raises:
        Failure: nothing answers there, it refuses, or the database is of another MLflow.
    """
    from mlflow import MlflowClient, get_tracking_uri
    from mlflow.exceptions import MlflowException
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

    uri = uri or get_tracking_uri()
    if urlparse(uri).scheme in ("http", "https"):
        attempts = Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, Failure) and e.exit_code is ExitCode.UNREACHABLE),
            stop=stop_after_delay(patience),
            wait=wait_random_exponential(multiplier=0.5, max=5),
            reraise=True,
        )
        attempts(_probe, uri)
    try:
        return MlflowClient(tracking_uri=uri)
    except MlflowException as error:
        raise _answered(uri, error) from error


def find_run(client: MlflowClient, experiment: str, pipeline_run: str) -> str | None:
    """The id of the MLflow run of a pipeline run, or None."""
    runs = client.search_runs([experiment], f"tags.`{PIPELINE_RUN_TAG}` = '{pipeline_run}'", max_results=1)
    return runs[0].info.run_id if runs else None


class plainly:  # noqa: N801 -- a context manager, named as it reads
    """Turns what MLflow raises inside the block into one sentence."""

    def __init__(self, client: MlflowClient):
        self.where = client.tracking_uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from mlflow.exceptions import MlflowException

        if isinstance(error, MlflowException) and error.get_http_status_code() in (401, 403):
            raise _refused(self.where, str(error)) from error
        if isinstance(error, MlflowException):
            raise _answered(self.where, error) from error


def settings_for_the_record(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run without what is secret: the notice, and the credentials in addresses."""
    return {section: redact_values(values) for section, values in settings.items() if section != "notify"}


def _answered(uri: str, error: Exception) -> Failure:
    message = str(error).splitlines()[0][:300]
    where = redact(uri)
    if found := re.search(r"out-of-date database schema \(found version (\w+), but expected (\w+)\)", message):
        return Failure(
            f"The registry has schema {found[1]}, this MLflow needs {found[2]}",
            where=where,
            remedy=f"back the database up, then run `mlflow db upgrade {where}`; or use the MLflow that wrote it",
        )
    return Failure(
        f"MLflow answered: {message}",
        where=where,
        remedy="mend what it says, or MLFLOW_TRACKING_URI, and run again",
    )


def _link_to_injected_run(client: MlflowClient, experiment: str) -> dict[str, str]:
    """Tags that set our run below the run that Kubeflow Pipelines made for this pipeline run, where it made one.

    It injects the run of one task, whose parent is that of the pipeline run. In another experiment, or on another
    server, a parent would not be found: there our run only names it.
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
    beside = task.info.experiment_id == experiment
    return {INJECTED_RUN_TAG: parent} | ({MLFLOW_PARENT_RUN_ID: parent} if beside else {})


def _experiment(client: MlflowClient) -> str:
    from mlflow.exceptions import MlflowException

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    if known := client.get_experiment_by_name(name):
        return known.experiment_id
    try:
        return client.create_experiment(name, artifact_location=_artifacts_beside(client.tracking_uri))
    except MlflowException:  # another run made it between the two calls
        if known := client.get_experiment_by_name(name):
            return known.experiment_id
        raise


def _artifacts_beside(uri: str) -> str | None:
    """Where artifacts go without a server: beside the SQLite file, not in whatever folder the command ran in."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()


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
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or fix the Secret that holds them"
    return Failure(what, where=where, remedy=remedy, exit_code=ExitCode.UNAUTHORISED)
