"""Messages as a server of Kubeflow Pipelines 2.17 and Kubernetes give them for our DAG."""

from typing import Any

RUN = "11111111-2222-3333-4444-555555555555"


def node(name: str, state: str, start: str = "", end: str = "", children: tuple[str, ...] = ()) -> dict[str, Any]:
    """One node of the Argo workflow among the details of a run."""
    return {
        "run_id": RUN,
        "task_id": f"id-of-{name}",
        "display_name": name,
        "create_time": "2026-11-22T02:00:00Z",
        "start_time": f"2026-11-22T{start or '02:00:00'}Z",
        "end_time": f"2026-11-22T{end}Z" if end else "1970-01-01T00:00:00Z",
        "state": state,
        "child_tasks": [{"pod_name": child} for child in children],
    }


def run(state: str, nodes: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A run with its nodes; every step has a driver beside it."""
    drivers = [node(f"{entry['display_name']}-driver", "SUCCEEDED") for entry in nodes]
    others = [node("wikigpt-x7k2p", state), node("root", state), node("executor", "RUNNING")]
    return {
        "run_id": RUN,
        "display_name": "nightly-20261122-020000-ab12",
        "created_at": "2026-11-22T02:00:00Z",
        "finished_at": "2026-11-22T02:10:00Z",
        "state": state,
        "run_details": {"task_details": [*others, *drivers, *nodes]},
        **fields,
    }


def pod(step: str, phase: str, name: str = "wikigpt-x7k2p-system-container-impl-42", **status: Any) -> dict[str, Any]:
    """A pod of a step."""
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": "2026-11-22T02:00:00Z",
            "labels": {"pipeline/runid": RUN, "app.kubernetes.io/component": step},
        },
        "spec": {"containers": []},
        "status": {"phase": phase, **status},
    }


def container(name: str = "main", **state: Any) -> dict[str, Any]:
    """The status of a container, as in `waiting={"reason": …}`."""
    return {"name": name, "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}
