"""MLflow's plugin of Kubeflow Pipelines 2.17 sets variables of MLflow on every pod; ours must not conflict."""

import kubernetes_validate
import pytest
import yaml

from pipelines.cluster.compiling import compile_to
from pipelines.config.settings import load
from tests.pipelines.cluster.conftest import IMAGE

SECRET = {"secretKeyRef": {"name": "kfp-mlflow-credentials", "key": "k"}}
# By the backend's plugin with `injectUserEnvVars: true`, for each kind of authentication that it knows.
INJECTED = [
    {"name": "MLFLOW_RUN_ID", "value": "0" * 32},
    {"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow:5000"},
    {"name": "MLFLOW_EXPERIMENT_ID", "value": "1"},
    {"name": "MLFLOW_WORKSPACE", "value": "team-a"},
    {"name": "MLFLOW_TRACKING_AUTH", "value": "kubernetes"},
    {"name": "MLFLOW_TRACKING_TOKEN", "valueFrom": SECRET},
    {"name": "MLFLOW_TRACKING_USERNAME", "valueFrom": SECRET},
    {"name": "MLFLOW_TRACKING_PASSWORD", "valueFrom": SECRET},
]


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    path = tmp_path_factory.mktemp("nightly") / "pipeline.yaml"
    compile_to(path, load("nightly", [f"cluster.image={IMAGE}"]))
    return list(yaml.load_all(path.read_text(), yaml.CSafeLoader))


def variables(documents, label):
    """The variables of a pod, as the driver creates them from the compiled pipeline."""
    pipeline, platform = documents
    container = pipeline["deploymentSpec"]["executors"][label]["container"]
    kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][label]
    found = list(container.get("env", []))
    for kind, source, key, reference in (
        ("configMapAsEnv", "configMapName", "configMapKey", "configMapKeyRef"),
        ("secretAsEnv", "secretName", "secretKey", "secretKeyRef"),
    ):
        found += [
            {"name": pair["envVar"], "valueFrom": {reference: {"name": entry[source], "key": pair[key]}}}
            for entry in kubernetes.get(kind, [])
            for pair in entry["keyToEnv"]
        ]
    return found


def test_no_variable_is_set_by_both(placed):
    for label in placed[0]["deploymentSpec"]["executors"]:
        env = variables(placed, label)
        assert not {entry["name"] for entry in env} & {entry["name"] for entry in INJECTED}
        assert {"WIKIGPT_MLFLOW_TRACKING_URI", "WIKIGPT_MLFLOW_TRACKING_PASSWORD"} <= {entry["name"] for entry in env}


def test_merged_by_name_as_argo_does_the_pod_fits_the_schema(placed):
    for label in placed[0]["deploymentSpec"]["executors"]:
        merged: dict[str, dict] = {}
        for entry in [*variables(placed, label), *INJECTED]:
            merged[entry["name"]] = merged.get(entry["name"], {}) | entry
        for entry in merged.values():
            assert len({"value", "valueFrom"} & entry.keys()) == 1, "Kubernetes refuses a variable with both"
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "step"},
            "spec": {"containers": [{"name": "main", "image": IMAGE, "env": list(merged.values())}]},
        }
        kubernetes_validate.validate(pod, "1.32", strict=True)
