"""Examines the cluster: whether it retries failed steps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from pipelines.cluster.kube import HOME, Kubernetes, NotVisible

if TYPE_CHECKING:
    from pipelines.cluster.access import Access

SERVER, CONTAINER, PATCH = "ml-pipeline", "ml-pipeline-api-server", "COMPILED_PIPELINE_SPEC_PATCH"
_CONTROLLER = "workflow-controller-configmap"
_APPLY = "apply infra/kubeflow/retries.yaml as docs/cluster.md says"


@dataclass(frozen=True)
class Retries:
    """Whether failed steps are retried.

    Attributes:
        in_force: whether they are retried as `cluster.<step>.retries` says; None if this cannot be read.
        seen: the same as a phrase.
    """

    in_force: bool | None
    seen: str


def retries_of(access: Access) -> Retries:
    """Whether the administrator's defaults let an ordinary failure be retried.

    A pipeline of kfp 2.17 says how often a step is retried, but not after which failures. The first of these applies:
    the patch of the API server for each workflow, the defaults of the workflow controller, Argo's `OnFailure`.
    """
    try:
        kubernetes = Kubernetes(access)
        if (deployment := kubernetes.deployment(SERVER, HOME)) is None:
            return Retries(None, f"not seen: there is no deployment {SERVER} in {HOME}")
        strategy = _of_the_server(deployment) or _of_the_controller(kubernetes)
    except NotVisible as not_visible:
        return Retries(None, f"not seen: {not_visible}")
    except (ValueError, yaml.YAMLError):
        return Retries(None, f"not seen: {PATCH} or {_CONTROLLER} cannot be read")
    return assess(strategy)


def assess(strategy: dict[str, Any]) -> Retries:
    """The effect of a default retry strategy on our steps, which set a limit and no policy."""
    policy, limit = strategy.get("retryPolicy") or "OnFailure", str(strategy.get("limit", "0"))
    if policy == "Always" and limit == "0":
        return Retries(True, "a step that failed or whose pod was lost is retried")
    if policy == "Always":
        words = f"each level of a run is repeated up to {limit} times, and a cancellation may never end"
    elif policy == "OnFailure":
        words = "a step that failed is retried, a step whose pod was lost is not"
    else:
        words = f"an ordinary failure is not retried (retryPolicy {policy})"
    return Retries(False, f"{words}: {_APPLY}")


def _of_the_server(deployment: Any) -> dict[str, Any] | None:
    containers = [one for one in deployment.spec.template.spec.containers if one.name == CONTAINER]
    values = [entry.value for one in containers for entry in one.env or () if entry.name == PATCH and entry.value]
    return _strategy_in(json.loads(values[0])) if values else None


def _of_the_controller(kubernetes: Kubernetes) -> dict[str, Any]:
    settings = kubernetes.config_map(_CONTROLLER, HOME) or {}
    document = yaml.safe_load(settings.get("workflowDefaults") or "") or {}
    return _strategy_in(document.get("spec", {})) or {}


def _strategy_in(spec: dict[str, Any]) -> dict[str, Any] | None:
    return spec.get("templateDefaults", {}).get("retryStrategy")
