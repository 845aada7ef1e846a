"""The state of the stand-in, and the effect of each operation of the API on it."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import yaml

from tests.kfp_stand_in import refusals
from tests.kfp_stand_in.kubernetes import Kubernetes
from tests.kfp_stand_in.recorded import recorded

Message = dict[str, Any]
NEVER = "1970-01-01T00:00:00Z"  # of a run that has not ended; for a node it is the year 1
OVER = ("SUCCEEDED", "FAILED")


class State:
    """Pipelines, versions, experiments, runs and recurring runs.

    Attributes:
        lifecycle: the states of a new run; each request for it returns the next one, and the last one stays. Each is a
            recorded run, such as `succeeded` for `rest/run-succeeded`, or `pending`, before there are nodes.
        kubernetes: the cluster below.
        canceling: the same for a run that is being cancelled.
    """

    def __init__(self) -> None:
        self.pipelines: dict[str, Message] = {}
        self.versions: dict[str, Message] = {}
        self.experiments: dict[str, Message] = {}
        self.runs: dict[str, Message] = {}
        self.recurring: dict[str, Message] = {}
        self.canceling: tuple[str, ...] = ("canceling", "canceled")
        self.lifecycle: tuple[str, ...] = ("pending", "running", "succeeded")
        self._ahead: dict[str, list[str]] = {}
        self.kubernetes = Kubernetes()
        self.health: Message = recorded("rest/healthz")

    def answer(self, operation: str, values: dict[str, str], body: Any) -> Message:
        """Executes an operation with the `values` of path and query."""
        return _OPERATIONS[operation](self, values, body)

    def add_run(self, *lifecycle: str, **fields: Any) -> Message:
        """A run that was not started by a request, but by a schedule or another person."""
        run = {
            "run_id": str(uuid.uuid4()),
            "display_name": "run",
            "storage_state": "AVAILABLE",
            "created_at": now(),
            "scheduled_at": now(),
            "finished_at": NEVER,
            "state": "PENDING",
            "state_history": [{"update_time": now(), "state": "PENDING"}],
            **fields,
        }
        self.runs[run["run_id"]] = run
        self.kubernetes.start_workflow(run["run_id"], run.get("recurring_run_id"))
        self._ahead[run["run_id"]] = list(lifecycle)
        return run

    def _get_healthz(self, values: dict[str, str], body: Any) -> Message:
        return self.health

    def _create_pipeline(self, values: dict[str, str], body: Message) -> Message:
        if any(entry["name"] == body["name"] for entry in self.pipelines.values()):
            raise refusals.taken("pipeline", body["name"])
        kept = {key: body[key] for key in ("display_name", "name")}
        made = {"pipeline_id": str(uuid.uuid4()), **kept, "created_at": now()}
        self.pipelines[made["pipeline_id"]] = made
        return made

    def _get_pipeline(self, values: dict[str, str], body: Any) -> Message:
        if values["pipeline_id"] not in self.pipelines:
            raise refusals.missing_pipeline(values["pipeline_id"])
        return self.pipelines[values["pipeline_id"]]

    def _list_pipelines(self, values: dict[str, str], body: Any) -> Message:
        return page(self.pipelines.values(), "pipelines", values)

    def _upload_version(self, values: dict[str, str], body: bytes | None) -> Message:
        named = [entry for entry in self.versions.values() if entry["pipeline_id"] == values["pipelineid"]]
        if any(entry["name"] == values["name"] for entry in named):
            raise refusals.taken("pipeline version", values["name"])
        documents = list(yaml.load_all(body or b"", yaml.CSafeLoader))
        made = {
            "pipeline_id": values["pipelineid"],
            "pipeline_version_id": str(uuid.uuid4()),
            "display_name": values.get("display_name", values["name"]),
            "name": values["name"],
            "created_at": now(),
            "pipeline_spec": dict(zip(("pipeline_spec", "platform_spec"), documents, strict=False)),
        }
        self.versions[made["pipeline_version_id"]] = made
        return made

    def _list_versions(self, values: dict[str, str], body: Any) -> Message:
        own = [entry for entry in self.versions.values() if entry["pipeline_id"] == values["pipeline_id"]]
        return page(own, "pipeline_versions", values)

    def _get_version(self, values: dict[str, str], body: Any) -> Message:
        if values["pipeline_version_id"] not in self.versions:
            raise refusals.missing_pipeline(values["pipeline_version_id"])
        return self.versions[values["pipeline_version_id"]]

    def _create_experiment(self, values: dict[str, str], body: Message) -> Message:
        if any(entry["display_name"] == body["display_name"] for entry in self.experiments.values()):
            raise refusals.taken("experiment", body["display_name"])
        kept = {key: body[key] for key in ("display_name", "description") if key in body}
        made = {"experiment_id": str(uuid.uuid4()), **kept, "created_at": now(), "storage_state": "AVAILABLE"}
        made["last_run_created_at"] = NEVER
        self.experiments[made["experiment_id"]] = made
        return made

    def _list_experiments(self, values: dict[str, str], body: Any) -> Message:
        return page(self.experiments.values(), "experiments", values)

    def _create_run(self, values: dict[str, str], body: Message) -> Message:
        if "pipeline_version_reference" not in body:
            raise refusals.as_recorded("bad-create", 500)
        self.experiments[body["experiment_id"]]["last_run_created_at"] = now()
        return self.add_run(*self.lifecycle, **body)

    def _get_run(self, values: dict[str, str], body: Any) -> Message:
        run = self._run(values["run_id"])
        # The Workflow reports on a run: without it the state does not change.
        if run["run_id"] in self.kubernetes.workflows and (ahead := self._ahead.get(run["run_id"])):
            _show(run, ahead.pop(0))
        return run

    def _list_runs(self, values: dict[str, str], body: Any) -> Message:
        return page(self.runs.values(), "runs", values)

    def _terminate_run(self, values: dict[str, str], body: Any) -> Message:
        run = self._run(values["run_id"])
        if run["state"] in OVER:
            raise refusals.ended_run(run["run_id"])
        _show(run, "canceling")
        self._ahead[run["run_id"]] = list(self.canceling)
        return {}

    def _run(self, identity: str) -> Message:
        if identity not in self.runs:
            raise refusals.missing_run(identity)
        return self.runs[identity]

    def _create_recurring(self, values: dict[str, str], body: Message) -> Message:
        if not 1 <= (given := int(body.get("max_concurrency", 0))) <= 10:
            raise refusals.bad_concurrency(given)
        made = {
            **body,
            "recurring_run_id": str(uuid.uuid4()),
            "created_at": now(),
            "updated_at": now(),
            "status": "ENABLED" if body.get("mode") == "ENABLE" else "DISABLED",
            "namespace": "kubeflow",
        }
        self.recurring[made["recurring_run_id"]] = made
        return made

    def _list_recurring(self, values: dict[str, str], body: Any) -> Message:
        return page(self.recurring.values(), "recurringRuns", values)

    def _get_recurring(self, values: dict[str, str], body: Any) -> Message:
        return self._schedule(values["recurring_run_id"])

    def _enable(self, values: dict[str, str], body: Any) -> Message:
        self._schedule(values["recurring_run_id"]).update(status="ENABLED", mode="ENABLE")
        return {}

    def _disable(self, values: dict[str, str], body: Any) -> Message:
        self._schedule(values["recurring_run_id"]).update(status="DISABLED", mode="DISABLE")
        return {}

    def _delete_recurring(self, values: dict[str, str], body: Any) -> Message:
        gone = self._schedule(values["recurring_run_id"], deleting=True)["recurring_run_id"]
        del self.recurring[gone]
        self.kubernetes.delete_owner(gone, orphan=values.get("propagation_policy") == "ORPHAN")
        return {}

    def _schedule(self, identity: str, *, deleting: bool = False) -> Message:
        if identity not in self.recurring:
            raise refusals.missing_schedule(identity, deleting=deleting)
        return self.recurring[identity]


def now() -> str:
    """The time in the format of the API."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def details_of(name: str, run_id: str) -> list[Message]:
    """The nodes of a recorded run for another run; fields that the excerpt omits are filled in."""
    return [
        {
            "run_id": run_id,
            "create_time": node["start_time"],
            "state_history": [
                {"update_time": node["start_time"], **({"state": node["state"]} if "state" in node else {})}
            ],
            **node,
        }
        for node in recorded(f"rest/run-{name}")["run_details"]["task_details"]
    ]


def page(entries: Iterable[Message], key: str, values: dict[str, str]) -> Message:
    """One page of a list, filtered and sorted by the query. An empty list is an empty object."""
    if (size := int(values.get("page_size") or 20)) < 0:
        raise refusals.bad_page_size(size)
    wanted = _wanted(values)
    chosen = [entry for entry in entries if all(entry.get(field) == value for field, value in wanted.items())]
    field, _, direction = (values.get("sort_by") or "created_at").partition(" ")
    chosen.sort(key=lambda entry: entry[field], reverse=direction == "desc")
    if not chosen:
        return {}
    start = int(base64.b64decode(token)) if (token := values.get("page_token")) else 0
    answer: Message = {key: chosen[start : start + size], "total_size": len(chosen)}
    if start + size < len(chosen):
        answer["next_page_token"] = base64.b64encode(str(start + size).encode()).decode()
    return answer


def _wanted(values: dict[str, str]) -> dict[str, str]:
    """The condition that the filter of a list sets on its entries."""
    predicates = []
    if text := values.get("filter"):
        try:
            predicates = json.loads(text)["predicates"]
        except ValueError:
            raise refusals.bad_filter(text) from None
    wanted = {predicate["key"]: predicate.get("string_value") for predicate in predicates}
    return {**wanted, **({"experiment_id": values["experiment_id"]} if values.get("experiment_id") else {})}


def _show(run: Message, name: str) -> None:
    """Makes a run look like a recorded one."""
    if name == "pending":
        return
    shown = recorded(f"rest/run-{name}")
    run["state"] = shown["state"]
    run["state_history"] = shown["state_history"]
    if run["state"] in OVER and run["finished_at"] == NEVER:
        run["finished_at"] = now()
    run["run_details"] = {"task_details": details_of(name, run["run_id"])}


_OPERATIONS: dict[str, Callable[[State, dict[str, str], Any], Message]] = {
    "HealthzService_GetHealthz": State._get_healthz,
    "PipelineService_CreatePipeline": State._create_pipeline,
    "PipelineService_GetPipeline": State._get_pipeline,
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
