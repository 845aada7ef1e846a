"""The optional settings of Kubeflow Pipelines: one component, and the same files as patches."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pipelines.cluster.examination import CONTAINER, PATCH, SERVER, assess
from tests.infra.objects import INFRA, build

# The names in the published manifests of Kubeflow Pipelines 2.17, and the variables that these set.
PUBLISHED = {
    SERVER: (CONTAINER, [{"name": PATCH, "value": "{}"}, {"name": "LOG_LEVEL", "value": "info"}]),
    "workflow-controller": ("workflow-controller", [{"name": "ARGO_EXECUTOR_PLUGINS", "value": "true"}]),
}


def deployment(name: str) -> dict:
    container, env = PUBLISHED[name]
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": container, "image": "x", "env": env}]}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


@pytest.fixture
def patched(tmp_path: Path) -> dict[str, dict[str, str]]:
    """The variables of both deployments once the component was built with them."""
    shutil.copytree(INFRA / "kubeflow", tmp_path / "kubeflow")
    (tmp_path / "site").mkdir()
    resources = []
    for name in PUBLISHED:
        (tmp_path / "site" / f"{name}.yaml").write_text(yaml.safe_dump(deployment(name)))
        resources.append(f"{name}.yaml")
    site = {"resources": resources, "components": ["../kubeflow"], "namespace": "kubeflow"}
    (tmp_path / "site" / "kustomization.yaml").write_text(yaml.safe_dump(site))
    built = build(str(tmp_path / "site"))
    containers = {thing["metadata"]["name"]: thing["spec"]["template"]["spec"]["containers"] for thing in built}
    assert all(len(own) == 1 for own in containers.values())
    return {name: {entry["name"]: entry["value"] for entry in own[0]["env"]} for name, own in containers.items()}


def test_the_component_changes_two_variables_and_leaves_the_others(patched):
    assert json.loads(patched[SERVER].pop(PATCH)) == {
        "templateDefaults": {"retryStrategy": {"limit": "0", "retryPolicy": "Always"}}
    }
    assert patched[SERVER] == {"LOG_LEVEL": "info"}
    assert patched["workflow-controller"] == {"ARGO_EXECUTOR_PLUGINS": "true", "DEFAULT_REQUEUE_TIME": "1s"}


def test_the_doctor_calls_it_in_force(patched):
    strategy = json.loads(patched[SERVER][PATCH])["templateDefaults"]["retryStrategy"]
    assert assess(strategy).in_force
