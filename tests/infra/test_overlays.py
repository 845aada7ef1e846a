"""Every overlay builds from this folder alone into valid Kubernetes objects whose references exist."""

import json
import re
import shutil
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from pipelines.cluster.placement import APP, S3_KEYS
from pipelines.config.cluster import OPTIONAL_KEYS, REQUIRED_KEYS, ClusterSettings
from tests.infra.objects import INFRA, ROOTS, WHOLE, build, containers, of_kind, one, pod_specs

DOCS = [INFRA.parent / "docs" / page for page in ("cluster.md", "rollout.md")]


def test_objects_fit_the_published_schemas_of_kubernetes() -> None:
    version = kubernetes_validate.latest_version()
    distinct = {json.dumps(thing, sort_keys=True): thing for root in ROOTS for thing in build(root)}
    for thing in distinct.values():
        kubernetes_validate.validate(thing, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    thing = {**one("overlays/kind", "Service", "mlflow")}
    thing["spec"] = {**thing["spec"], "selektor": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="selektor"):
        kubernetes_validate.validate(thing, kubernetes_validate.latest_version(), strict=True)


def test_no_overlay_reaches_beyond_the_folder() -> None:
    for file in INFRA.rglob("kustomization.yaml"):
        wanted = yaml.safe_load(file.read_text())
        for resource in wanted.get("resources", [patch["path"] for patch in wanted.get("patches", ())]):
            target = (file.parent / resource).resolve()
            assert target.exists() and target.is_relative_to(INFRA), f"{file}: {resource}"


@pytest.mark.parametrize("root", WHOLE)
def test_runs_may_have_a_namespace_of_their_own(root: str, tmp_path: Path) -> None:
    """Applies the edits that docs/cluster.md lists."""
    shutil.copytree(INFRA, tmp_path / "infra")
    own = tmp_path / "infra" / root
    for file in [tmp_path / "infra/base/runs/kustomization.yaml", *own.glob("*.yaml")]:
        file.write_text(re.sub(r"namespace: kubeflow\b", "namespace: team", file.read_text()))
    things = build(str(own))
    configs = [thing["metadata"] for thing in things if thing["kind"] == "ConfigMap"]
    where = {config["name"]: config["namespace"] for config in configs}
    assert (where["wikigpt"], where["kfp-launcher"]) == ("team", "team")
    (policy,) = [thing for thing in things if thing["metadata"]["name"] == "wikigpt-steps"]
    assert policy["metadata"]["namespace"] == "team"
    named = [peer for rule in policy["spec"]["egress"] for peer in rule["to"] if "namespaceSelector" in peer]
    assert {"matchLabels": {"kubernetes.io/metadata.name": "kubeflow"}} in [peer["namespaceSelector"] for peer in named]


@pytest.mark.parametrize("root", WHOLE)
def test_the_settings_that_the_compiled_pipeline_reads_are_there(root: str) -> None:
    settings = ClusterSettings()
    config = one(root, "ConfigMap", settings.config_map)
    assert config["metadata"]["namespace"] == "kubeflow"
    assert set(REQUIRED_KEYS) <= config["data"].keys() <= {*REQUIRED_KEYS, *OPTIONAL_KEYS}
    assert config["data"]["WIKIGPT_STORE"].startswith("s3://")
    service = one(root, "Service", "mlflow")
    name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
    address = f"http://{name}.{namespace}.svc.cluster.local:{service['spec']['ports'][0]['port']}"
    assert config["data"]["MLFLOW_TRACKING_URI"] == address


@pytest.mark.parametrize("root", WHOLE)
def test_the_launcher_gets_the_same_storage_as_the_steps(root: str) -> None:
    launcher, steps = one(root, "ConfigMap", "kfp-launcher")["data"], one(root, "ConfigMap", "wikigpt")["data"]
    provider = yaml.safe_load(launcher["providers"])["s3"]["default"]
    assert launcher["defaultPipelineRoot"].startswith("s3://") and "?" not in launcher["defaultPipelineRoot"]
    assert launcher["defaultPipelineRoot"].split("/")[2] == steps["WIKIGPT_STORE"].split("/")[2]
    assert provider["region"] == steps["AWS_REGION"]
    assert provider["forcePathStyle"] == (steps.get("WIKIGPT_S3_PATH_STYLE") == "1")
    if endpoint := steps.get("AWS_ENDPOINT_URL_S3"):
        scheme, _, host = endpoint.partition("://")
        assert (provider["endpoint"], provider["disableSSL"]) == (host, scheme == "http")
    secret = provider["credentials"]["secretRef"]
    assert (secret["accessKeyKey"], secret["secretKeyKey"]) == S3_KEYS
    assert secret["secretName"] == ClusterSettings().s3_secret


@pytest.mark.parametrize("root", ROOTS)
def test_what_a_pod_refers_to_is_there_or_documented(root: str) -> None:
    """Config maps are among the objects; Secrets are made by a command of docs/cluster.md or docs/rollout.md."""
    docs = "".join(page.read_text() for page in DOCS)
    known = {thing["metadata"]["name"] for thing in [*of_kind(root, "ConfigMap"), *of_kind(WHOLE[1], "ConfigMap")]}
    for name, pod in pod_specs(root):
        for kind, referred in references(pod):
            there = referred in known if kind == "ConfigMap" else f"create secret generic {referred} " in docs
            assert there, f"{name} refers to the {kind} {referred}"


@pytest.mark.parametrize("root", WHOLE)
def test_the_registry_lets_the_steps_in_and_they_are_let_out(root: str) -> None:
    registry = one(root, "NetworkPolicy", "mlflow")["spec"]["ingress"]
    steps = one(root, "NetworkPolicy", "wikigpt-steps")["spec"]
    assert registry[0]["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": APP}
    assert steps["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": APP}
    (to_registry,) = [rule for rule in steps["egress"] if {"protocol": "TCP", "port": 5000} in rule.get("ports", [])]
    (pod,) = [pod for name, pod in pod_specs(root) if name == "wikigpt/mlflow"]
    wanted = to_registry["to"][0]["podSelector"]["matchLabels"]
    assert wanted.items() <= pod["metadata"]["labels"].items()


def references(pod: dict) -> list[tuple[str, str]]:
    """Kind and name of the config maps and Secrets that a pod reads."""
    found = [("Secret", v["secret"]["secretName"]) for v in pod["spec"].get("volumes", []) if "secret" in v]
    found += [("ConfigMap", v["configMap"]["name"]) for v in pod["spec"].get("volumes", []) if "configMap" in v]
    for container in containers(pod):
        for source in container.get("envFrom", []):
            ((key, reference),) = source.items()
            found.append(({"secretRef": "Secret", "configMapRef": "ConfigMap"}[key], reference["name"]))
        for variable in container.get("env", []):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                found.append(("Secret", reference["name"]))
    return found
