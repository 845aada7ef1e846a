"""What the stand-in remembers, and what each operation of the API does to it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import yaml

Message = dict[str, Any]
NEVER = "1970-01-01T00:00:00Z"


class Refusal(Exception):
    """An error of the API: HTTP status, code of google.rpc, message."""

    def __init__(self, status: int, code: int, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class State:
    """Pipelines, versions, experiments, runs and recurring runs.

    Attributes:
        lifecycle: the states that a new run goes through, one further at each look at it; the last one stays.
        logs: text by the name of a pod.
        pods: Kubernetes pods, as its API gives them.
    """

    def __init__(self) -> None:
        self.pipelines: dict[str, Message] = {}
        self.versions: dict[str, Message] = {}
        self.experiments: dict[str, Message] = {}
        self.runs: dict[str, Message] = {}
        self.recurring: dict[str, Message] = {}
        self.lifecycle: tuple[str, ...] = ("PENDING", "RUNNING", "SUCCEEDED")
        self._ahead: dict[str, list[str]] = {}
        self.logs: dict[str, str] = {}
        self.pods: list[Message] = []
        self.multi_user = False

    def answer(self, operation: str, values: dict[str, str], body: Any) -> Message:
        """Does what an operation asks. `values` are those of path and query."""
        return _OPERATIONS[operation](self, values, body)

    def add_run(self, **fields: Any) -> Message:
        """A run that something else than a request started: a schedule, another person."""
        run = {
            "run_id": str(uuid.uuid4()),
            "display_name": "run",
            "created_at": now(),
            "scheduled_at": now(),
            "finished_at": NEVER,
            "state": "RUNNING",
            "storage_state": "AVAILABLE",
            **fields,
        }
        self.runs[run["run_id"]] = run
        return run

    def _get_healthz(self, values: dict[str, str], body: Any) -> Message:
        return {"multi_user": self.multi_user}

    def _create_pipeline(self, values: dict[str, str], body: Message) -> Message:
        if any(entry["name"] == body["name"] for entry in self.pipelines.values()):
            raise Refusal(409, 6, f"a pipeline {body['name']} exists")
        made = {**body, "pipeline_id": str(uuid.uuid4()), "created_at": now()}
        self.pipelines[made["pipeline_id"]] = made
        return made

    def _list_pipelines(self, values: dict[str, str], body: Any) -> Message:
        return page(self.pipelines.values(), "pipelines", values)

    def _upload_version(self, values: dict[str, str], body: bytes) -> Message:
        named = [entry for entry in self.versions.values() if entry["pipeline_id"] == values["pipelineid"]]
        if any(entry["name"] == values["name"] for entry in named):
            raise Refusal(409, 6, f"a version {values['name']} exists")
        documents = list(yaml.safe_load_all(body))
        made = {
            "pipeline_id": values["pipelineid"],
            "pipeline_version_id": str(uuid.uuid4()),
            "name": values["name"],
            "display_name": values.get("display_name", values["name"]),
            "description": values.get("description", ""),
            "created_at": now(),
            "pipeline_spec": dict(zip(("pipeline_spec", "platform_spec"), documents, strict=False)),
        }
        self.versions[made["pipeline_version_id"]] = made
        return made

    def _list_versions(self, values: dict[str, str], body: Any) -> Message:
        own = [entry for entry in self.versions.values() if entry["pipeline_id"] == values["pipeline_id"]]
        return page(own, "pipeline_versions", values)

    def _get_version(self, values: dict[str, str], body: Any) -> Message:
        return known(self.versions, values["pipeline_version_id"], "pipeline version")

    def _create_experiment(self, values: dict[str, str], body: Message) -> Message:
        if any(entry["display_name"] == body["display_name"] for entry in self.experiments.values()):
            raise Refusal(409, 6, f"an experiment {body['display_name']} exists")
        made = {**body, "experiment_id": str(uuid.uuid4()), "created_at": now(), "storage_state": "AVAILABLE"}
        self.experiments[made["experiment_id"]] = made
        return made

    def _list_experiments(self, values: dict[str, str], body: Any) -> Message:
        return page(self.experiments.values(), "experiments", values)

    def _create_run(self, values: dict[str, str], body: Message) -> Message:
        known(self.experiments, body["experiment_id"], "experiment")
        known(self.versions, body["pipeline_version_reference"]["pipeline_version_id"], "pipeline version")
        run = self.add_run(**body, state="PENDING")
        self._ahead[run["run_id"]] = list(self.lifecycle)
        return run

    def _get_run(self, values: dict[str, str], body: Any) -> Message:
        run = known(self.runs, values["run_id"], "run")
        if ahead := self._ahead.get(run["run_id"]):
            run["state"] = ahead.pop(0)
        if run["state"] in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED") and run["finished_at"] == NEVER:
            run["finished_at"] = now()
        return run

    def _list_runs(self, values: dict[str, str], body: Any) -> Message:
        return page(self.runs.values(), "runs", values)

    def _terminate_run(self, values: dict[str, str], body: Any) -> Message:
        run = known(self.runs, values["run_id"], "run")
        if run["state"] not in ("PENDING", "RUNNING"):
            raise Refusal(400, 3, f"run {run['run_id']} cannot be terminated: {run['state']}")
        run["state"] = "CANCELING"
        self._ahead[run["run_id"]] = ["CANCELING", "CANCELED"]
        return {}

    def _create_recurring(self, values: dict[str, str], body: Message) -> Message:
        if not 1 <= int(body["max_concurrency"]) <= 10:
            raise Refusal(400, 3, "max concurrency must be at least 1 and at most 10")
        made = {
            **body,
            "recurring_run_id": str(uuid.uuid4()),
            "created_at": now(),
            "updated_at": now(),
            "status": "ENABLED" if body.get("mode") == "ENABLE" else "DISABLED",
        }
        self.recurring[made["recurring_run_id"]] = made
        return made

    def _list_recurring(self, values: dict[str, str], body: Any) -> Message:
        return page(self.recurring.values(), "recurringRuns", values)

    def _get_recurring(self, values: dict[str, str], body: Any) -> Message:
        return known(self.recurring, values["recurring_run_id"], "recurring run")

    def _enable(self, values: dict[str, str], body: Any) -> Message:
        known(self.recurring, values["recurring_run_id"], "recurring run").update(status="ENABLED", mode="ENABLE")
        return {}

    def _disable(self, values: dict[str, str], body: Any) -> Message:
        known(self.recurring, values["recurring_run_id"], "recurring run").update(status="DISABLED", mode="DISABLE")
        return {}

    def _delete_recurring(self, values: dict[str, str], body: Any) -> Message:
        gone = known(self.recurring, values["recurring_run_id"], "recurring run")["recurring_run_id"]
        del self.recurring[gone]
        if values.get("propagation_policy") != "ORPHAN":
            # The workflows of a recurring run belong to it: Kubernetes collects them with their owner.
            for run in self.runs.values():
                if run.get("recurring_run_id") == gone and run["state"] == "RUNNING":
                    run["state"] = "FAILED"
        return {}


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def known(entries: dict[str, Message], identity: str, kind: str) -> Message:
    """The entry with an identity.

    Raises:
        Refusal: there is none.
    """
    if identity not in entries:
        raise Refusal(404, 5, f"{kind} {identity} not found")
    return entries[identity]


def page(entries: Iterable[Message], key: str, values: dict[str, str]) -> Message:
    """One page of a list: filtered, sorted and cut as the query asks."""
    predicates = json.loads(values["filter"])["predicates"] if values.get("filter") else []
    chosen = [entry for entry in entries if all(entry.get(p["key"]) == p["string_value"] for p in predicates)]
    if values.get("experiment_id"):
        chosen = [entry for entry in chosen if entry.get("experiment_id") == values["experiment_id"]]
    if values.get("sort_by"):
        field, _, direction = values["sort_by"].partition(" ")
        chosen.sort(key=lambda entry: entry[field], reverse=direction == "desc")
    start, size = int(values.get("page_token") or 0), int(values.get("page_size") or 20)
    answer: Message = {key: chosen[start : start + size], "total_size": len(chosen)}
    if start + size < len(chosen):
        answer["next_page_token"] = str(start + size)
    return answer


_OPERATIONS: dict[str, Callable[[State, dict[str, str], Any], Message]] = {
    "HealthzService_GetHealthz": State._get_healthz,
    "PipelineService_CreatePipeline": State._create_pipeline,
    "PipelineService_ListPipelines": State._list_pipelines,
    "UploadPipelineVersion": State._upload_version,
    "PipelineService_ListPipelineVersions": State._list_versions,
    "PipelineService_GetPipelineVersion": State._get_version,
    "ExperimentService_CreateExperiment": State._create_experiment,
    "ExperimentService_ListExperiments": State._list_experiments,
    "RunService_CreateRun": State._create_run,
    "RunService_GetRun": State._get_run,
    "RunService_ListRuns": State._list_runs,
    "RunService_TerminateRun": State._terminate_run,
    "RecurringRunService_CreateRecurringRun": State._create_recurring,
    "RecurringRunService_ListRecurringRuns": State._list_recurring,
    "RecurringRunService_GetRecurringRun": State._get_recurring,
    "RecurringRunService_EnableRecurringRun": State._enable,
    "RecurringRunService_DisableRecurringRun": State._disable,
    "RecurringRunService_DeleteRecurringRun": State._delete_recurring,
}
