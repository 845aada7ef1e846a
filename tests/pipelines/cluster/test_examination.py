"""`wikigpt doctor --cluster`: the server, its version, and whether a step that fails is retried."""

import json
from pathlib import Path

import pytest
import yaml

from pipelines.cluster.access import Access
from pipelines.cluster.examination import CONTAINER, PATCH, SERVER, assess, retries_of
from tests.infra.objects import INFRA
from tests.kfp_stand_in.recorded import recorded

RETRIES = yaml.safe_load((INFRA / "kubeflow" / "retries.yaml").read_text())
OURS = RETRIES["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]


def deployment(value: str | None) -> dict:
    """The API server of the published manifest, with the value of its patch."""
    env = [{"name": "LOG_LEVEL", "value": "info"}, *([{"name": PATCH, "value": value}] if value is not None else [])]
    template = {"metadata": {"labels": {"app": SERVER}}, "spec": {"containers": [{"name": CONTAINER, "env": env}]}}
    return {"kind": "Deployment", "spec": {"selector": {"matchLabels": {"app": SERVER}}, "template": template}}


@pytest.fixture
def install(stand_in):
    """Installs an API server with a patch, and the workflow controller's defaults."""

    def with_values(value: str | None, defaults: dict | None = None) -> None:
        kubernetes = stand_in.state.kubernetes
        kubernetes.deployments["kubeflow", SERVER] = deployment(value)
        data = {"workflowDefaults": yaml.safe_dump({"spec": {"templateDefaults": defaults}})} if defaults else {}
        kubernetes.config_maps["kubeflow", "workflow-controller-configmap"] = data

    return with_values


@pytest.fixture(scope="module")
def published(real_data: Path) -> dict:
    """The defaults that the published manifests put on the recorded workflow."""
    path = real_data / "kfp-recorded/k8s/workflow-succeeded.yaml"
    if not path.is_file():
        pytest.skip(f"no recording here: {path}")
    return yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]["templateDefaults"]


@pytest.mark.parametrize("value", ["{}", "", None])
def test_with_the_published_defaults_an_ordinary_failure_is_not_retried(kubeconfig, install, published, value):
    assert published["retryStrategy"] == {"limit": "2", "retryPolicy": "OnError"}
    install(value, published)
    found = retries_of(kubeconfig)
    assert found.in_force is False
    assert found.seen.startswith(
        "an ordinary failure is not retried (retryPolicy OnError): apply infra/kubeflow/retries"
    )


def test_with_our_patch_it_is(kubeconfig, install, published):
    install(OURS, published)
    found = retries_of(kubeconfig)
    assert (found.in_force, found.seen) == (True, "a step that failed or whose pod was lost is retried")


def test_without_any_default_argo_retries_failures_only(kubeconfig, install):
    install("{}")
    assert retries_of(kubeconfig).seen.startswith(
        "a step that failed is retried, a step whose pod was lost is not: apply"
    )


def test_our_patch_is_the_one_that_worked_and_not_the_one_that_multiplied():
    """Two recorded endings: with a limit of 0 one retry is two attempts, with 2 it is four and then two again."""
    endings = recorded("k8s/workflow-nodes-by-ending")

    def attempts(ending: str) -> int:
        return sum(node["displayName"].startswith("executor(") for node in endings[ending]["nodes"])

    strategy = json.loads(OURS)["templateDefaults"]["retryStrategy"]
    assert strategy == {"limit": "0", "retryPolicy": "Always"}
    assert attempts("retry-default-limit-0-always-two-attempts") == 2
    assert attempts("retry-default-limit-2-always-multiplied-then-cancel-hangs") == 6
    assert assess(strategy).in_force is True
    assert assess({**strategy, "limit": "2"}).seen.startswith("each level of a run is repeated up to 2 times")


def test_what_cannot_be_seen_is_said(stand_in, kubeconfig, install):
    assert retries_of(Access(kube_context="other")).seen == "not seen: there is no kubeconfig"
    assert retries_of(kubeconfig).seen == "not seen: there is no deployment ml-pipeline in kubeflow"
    install(OURS)
    stand_in.state.kubernetes.forbidden = {"deployments"}
    found = retries_of(kubeconfig)
    assert (found.in_force, found.seen) == (
        None,
        "not seen: Kubernetes does not show the deployment ml-pipeline: 403 Forbidden",
    )


def test_a_patch_that_is_no_json(kubeconfig, install):
    install("{templateDefaults")
    assert retries_of(kubeconfig).seen == f"not seen: {PATCH} or workflow-controller-configmap cannot be read"


@pytest.fixture
def doctor(command, monkeypatch):
    """`wikigpt doctor --cluster --json`: its exit code and its findings by name."""

    def run(endpoint: str, *arguments: str):
        code, out, _ = command("doctor", "--cluster", "--json", "--endpoint", endpoint, *arguments)
        return code, {finding["name"]: finding for finding in json.loads(out)["findings"]}

    return run


def test_the_command_on_a_cluster_that_is_well(stand_in, kubeconfig, install, doctor):
    install(OURS)
    code, findings = doctor(stand_in.url, "--namespace", "kubeflow")
    assert (code, [finding["ok"] for finding in findings.values()]) == (0, [True, True])
    assert findings["Kubeflow Pipelines"]["seen"] == f"2.17.0 4a3592cb2dd0 at {stand_in.url}"


def test_retries_that_are_not_in_force_fail_nothing(stand_in, doctor):
    code, findings = doctor(stand_in.url)
    assert (code, findings["Retries"]["ok"], findings["Retries"]["needed"]) == (0, False, False)
    assert findings["Retries"]["seen"] == "not seen: there is no kubeconfig"


def test_a_missing_server_or_namespace(stand_in, kubeconfig, doctor):
    code, findings = doctor("http://127.0.0.1:9")
    assert (code, findings["Kubeflow Pipelines"]["ok"]) == (3, False)
    assert "Nothing listens at the address" in findings["Kubeflow Pipelines"]["seen"]
    code, findings = doctor(stand_in.url, "--namespace", "nowhere")
    assert (code, findings["Kubeflow Pipelines"]["seen"].startswith("There is no namespace 'nowhere'")) == (2, True)
