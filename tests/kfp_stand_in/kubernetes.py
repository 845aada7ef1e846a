"""The parts of Kubernetes in the stand-in: Workflows with their owners, pods with their logs, namespaces."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tests.kfp_stand_in.recorded import recorded_log

Object = dict[str, Any]


@dataclass
class Kubernetes:
    """The objects of the cluster.

    Attributes:
        workflows: Argo's Workflow by run.
        pods: in the form of Kubernetes' API.
        logs: what the container `main` printed, by the name of a pod.
        namespaces: that exist.
        config_maps: data by namespace and name.
        deployments: by namespace and name.
        forbidden: kinds, in the plural, that the account may not read.
    """

    workflows: dict[str, Object] = field(default_factory=dict)
    pods: list[Object] = field(default_factory=list)
    logs: dict[str, str] = field(default_factory=dict)
    namespaces: set[str] = field(default_factory=lambda: {"kubeflow"})
    config_maps: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    deployments: dict[tuple[str, str], Object] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)

    def start_workflow(self, run_id: str, owner: str | None) -> None:
        """Creates the Workflow of a run; that of a scheduled run is owned by its ScheduledWorkflow."""
        owners = [{"apiVersion": "kubeflow.org/v1beta1", "kind": "ScheduledWorkflow", "uid": owner}] if owner else []
        labels = {"pipeline/runid": run_id}
        metadata = {"name": "wikigpt-x7k2p", "namespace": "kubeflow", "labels": labels, "ownerReferences": owners}
        self.workflows[run_id] = {"kind": "Workflow", "metadata": metadata, "status": {"nodes": {}}}

    def delete_owner(self, uid: str, *, orphan: bool) -> None:
        """Deletes a ScheduledWorkflow: the garbage collector deletes what it owns, unless the request orphans it."""
        for run_id, workflow in list(self.workflows.items()):
            owners = workflow["metadata"]["ownerReferences"]
            if any(owner["uid"] == uid for owner in owners):
                if orphan:
                    workflow["metadata"]["ownerReferences"] = [owner for owner in owners if owner["uid"] != uid]
                else:
                    del self.workflows[run_id]

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Object | str]:
        """Status and body of a GET."""
        if match := re.fullmatch(r"/api/v1/namespaces/([^/]+)", path):
            there = match[1] in self.namespaces
            return self._one("namespaces", match[1], {"kind": "Namespace"} if there else None)
        if match := re.fullmatch(r"/api/v1/namespaces/[^/]+/pods/([^/]+)/log", path):
            return (200, self.logs[match[1]]) if match[1] in self.logs else _missing("pods", match[1])
        if match := re.fullmatch(r"/api/v1/namespaces/([^/]+)/configmaps/([^/]+)", path):
            data = self.config_maps.get((match[1], match[2]))
            return self._one("configmaps", match[2], None if data is None else {"kind": "ConfigMap", "data": data})
        if match := re.fullmatch(r"/apis/apps/v1/namespaces/([^/]+)/deployments/([^/]+)", path):
            return self._one("deployments", match[2], self.deployments.get((match[1], match[2])))
        if match := re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods", path):
            return self._list("pods", self.pods, query)
        if match := re.fullmatch(r"/apis/argoproj\.io/v1alpha1/namespaces/([^/]+)/workflows", path):
            return self._list("workflows", list(self.workflows.values()), query)
        return _missing("resource", path)

    def _one(self, kind: str, name: str, found: Object | None) -> tuple[int, Object]:
        if kind in self.forbidden:
            return _forbidden(kind)
        return (200, {"apiVersion": "v1", "metadata": {"name": name}, **found}) if found else _missing(kind, name)

    def _list(self, kind: str, objects: list[Object], query: dict[str, str]) -> tuple[int, Object]:
        if kind in self.forbidden:
            return _forbidden(kind)
        wanted = dict(pair.split("=") for pair in query["labelSelector"].split(","))
        chosen = [one for one in objects if wanted.items() <= one["metadata"]["labels"].items()]
        return 200, {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": chosen}


def log_through_pipelines(kubernetes: Kubernetes, run_id: str, pod: str, *, run_exists: bool) -> str:
    """The answer of the log endpoint of Kubeflow Pipelines with status 200, whether or not there is a log.

    A line that is a JSON object arrives empty, and an empty line does not arrive (as in the recording of a log).
    """
    if run_exists and pod in kubernetes.logs:
        lines = [line for line in kubernetes.logs[pod].splitlines() if line]
        return "".join(("" if line.startswith("{") and line.endswith("}") else line) + "\n" for line in lines)
    if not run_exists:
        return recorded_log("log-of-missing-run")[1].replace("00000000-0000-0000-0000-000000000000", run_id)
    body = recorded_log("log-of-deleted-pod")[1]
    recorded_pod = "tiny9hgpc-1-1152188196-system-container-impl-1267791158"
    return body.replace("aeafc74c-b174-4fbe-8e6a-bbbec733ff51", run_id).replace(recorded_pod, pod)


def _missing(kind: str, name: str) -> tuple[int, Object]:
    return 404, _status(404, "NotFound", f'{kind} "{name}" not found')


def _forbidden(kind: str) -> tuple[int, Object]:
    return 403, _status(403, "Forbidden", f"{kind} is forbidden: User cannot get resource")


def _status(code: int, reason: str, message: str) -> Object:
    """Kubernetes' Status, by its published schema."""
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
