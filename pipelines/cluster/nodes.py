"""Nodes of the Argo workflow of a run: finds the pods of a step.

Kubeflow Pipelines 2.17 names no pod (kubeflow/pipelines#14007). It lists nodes by their display name, all pods as
`executor(0)`, and for each the IDs of its children. With the published defaults a step `train` is the node
`train`, whose child is `train(0)`, whose child is `executor`, whose child is `executor(0)`, the pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

_FNV_PRIME = 0x01000193
# The suffixes of pod nodes after the name of a child of the step, with and without a retry of the step's own DAG.
_PODS = (".executor({})", "({})")


def node_id(identity: str, suffix: str) -> str | None:
    """The ID of the node whose full name is that of another node and a suffix; None for the root of a workflow.

    An ID is the name of the workflow and the 32-bit FNV-1a hash of the full name of the node. The value of FNV-1a is
    its whole state, so the hash of a longer name follows from that of its prefix.
    """
    workflow, _, digits = identity.rpartition("-")
    if not workflow or not digits.isdecimal():
        return None
    value = int(digits)
    for byte in suffix.encode():
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFF
    return f"{workflow}-{value}"


def pods_below(node: Any, details: Iterable[Any]) -> Iterator[str]:
    """Yields the IDs of the pods of a step, the newest last.

    Args:
        node: the node of the step, as the server lists it.
        details: all nodes of the run.
    """
    known = {child for detail in details if detail.display_name == "executor" for child in children(detail)}
    for child in children(node):
        for suffix in _PODS:
            for attempt in count():
                pod = node_id(child, suffix.format(attempt))
                if pod not in known:
                    break
                yield pod


def children(node: Any) -> list[str]:
    """IDs of the children of a node, which the server calls pod names."""
    return [child.pod_name for child in node.child_tasks or () if child.pod_name]


def pod_name(identity: str, template: str) -> str:
    """The name of a pod: workflow, template and hash of the node."""
    workflow, _, digits = identity.rpartition("-")
    return f"{workflow}-{template}-{digits}"


def template_of(step: str, document: dict[str, Any]) -> str | None:
    """The name of the template from which Kubeflow Pipelines 2.17 creates the pods of a step; None if there is none.

    It depends on whether the task has a retry policy and on how many annotations and labels its pod is given.

    Args:
        step: the name of the step.
        document: the document of a pipeline version: the pipeline and its platform configuration.
    """
    pipeline = document.get("pipeline_spec", document)
    components = pipeline.get("components", {})
    dags = [part["dag"] for part in (pipeline.get("root", {}), *components.values()) if "dag" in part]
    tasks = [dag["tasks"][step] for dag in dags if step in dag.get("tasks", {})]
    if not tasks:
        return None
    name = "system-container-impl"
    if "retryPolicy" in tasks[0]:
        name = f"retry-{name}"
    label = components.get(tasks[0]["componentRef"]["name"], {}).get("executorLabel")
    platform = document.get("platform_spec", {}).get("platforms", {}).get("kubernetes", {})
    executor = platform.get("deploymentSpec", {}).get("executors", {}).get(label, {})
    if (metadata := executor.get("podMetadata")) is not None:
        name = f"metadata-{len(metadata.get('annotations', {}))}-{len(metadata.get('labels', {}))}-{name}"
    return name
