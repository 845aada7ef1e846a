"""What the cluster offers: whether its server answers, in which version, and what it does with a step that fails."""

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
    """What becomes of a step that failed.

    Attributes:
        in_force: whether it is retried as `cluster.<step>.retries` says; None where nobody shows it.
        seen: that, in words.
    """

    in_force: bool | None
    seen: str


def retries_of(access: Access) -> Retries:
    """Whether the administrator's defaults let an ordinary failure be retried.

    A pipeline of kfp 2.17 says how often a step is retried and not on what. The first that applies: the patch that the
    API server puts on each workflow, the workflow controller's own defaults, Argo's `OnFailure`.
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
    """What a default retry strategy means for a step of ours, which brings a limit of its own and no policy."""
    policy, limit = strategy.get("retryPolicy") or "OnFailure", str(strategy.get("limit", "0"))
    if policy == "Always" and limit == "0":
        return Retries(True, "a step that failed or whose pod was lost is retried")
    if policy == "Always":
        words = f"each level of a run is repeated up to {limit} times, and a cancel may never end"
    elif policy == "OnFailure":
        words = "a step that failed is retried, one whose pod was lost is not"
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
