"""Things that an attacker of the cluster or a reader of the repository must not find."""

import re
from typing import Any

import pytest
import yaml

from tests.infra.objects import INFRA, ROOTS, SERVING, WHOLE, WITH_TOKEN, build, containers, of_kind, one, pod_specs

SENSITIVE = re.compile(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY", re.IGNORECASE)


@pytest.mark.parametrize("root", ROOTS)
def test_pods_fit_the_restricted_standard_and_write_nothing_but_volumes(root: str) -> None:
    for name, pod in pod_specs(root):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC"}, name
        assert all(volume.keys() & {"emptyDir", "configMap", "secret"} for volume in spec.get("volumes", [])), name
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert "hostPort" not in str(container.get("ports", [])), name


@pytest.mark.parametrize("root", ROOTS)
def test_pods_hold_no_token_of_the_cluster(root: str) -> None:
    for name, pod in pod_specs(root):
        assert pod["spec"]["automountServiceAccountToken"] is (name in WITH_TOKEN), name


@pytest.mark.parametrize("root", ROOTS)
def test_containers_have_requests_limits_and_an_image_with_a_version(root: str) -> None:
    for name, pod in pod_specs(root):
        for container in containers(pod):
            assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys(), name
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            assert "@sha256:" in container["image"] or tag not in ("", "latest"), f"{name}: {container['image']}"


@pytest.mark.parametrize("root", [*WHOLE, *SERVING])
def test_the_registry_and_the_server_are_behind_network_policies(root: str) -> None:
    names = {"wikigpt", "wikigpt-serving"} if root in SERVING else {"wikigpt"}
    namespaces = {each["metadata"]["name"]: each["metadata"]["labels"] for each in of_kind(root, "Namespace")}
    assert namespaces.keys() == names
    assert {labels["pod-security.kubernetes.io/enforce"] for labels in namespaces.values()} == {"restricted"}
    deny = [each for each in of_kind(root, "NetworkPolicy") if each["metadata"]["name"] == "default-deny"]
    assert {each["metadata"]["namespace"] for each in deny} == names
    assert all(each["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for each in deny)
    for policy in of_kind(root, "NetworkPolicy"):
        for rule in [*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])]:
            peers = rule.get("from") or rule.get("to")
            assert peers, f"{policy['metadata']['name']} names no peer, which means everybody"
            for peer in peers:
                assert "169.254.169.254/32" in peer.get("ipBlock", {"except": ["169.254.169.254/32"]})["except"]
    assert {service["spec"].get("type", "ClusterIP") for service in of_kind(root, "Service")} == {"ClusterIP"}


@pytest.mark.parametrize("root", WHOLE)
def test_the_server_asks_who_one_is_and_loads_no_pickle(root: str) -> None:
    (pod,) = [pod for name, pod in pod_specs(root) if name == "wikigpt/mlflow"]
    (server,) = pod["spec"]["containers"]
    settings = one(root, "ConfigMap", "mlflow")["data"]
    assert "--app-name=basic-auth" in server["args"]
    assert settings["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    hosts = settings["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert "mlflow.wikigpt.svc.cluster.local:*" in hosts and "*" not in hosts
    assert settings["MLFLOW_ARTIFACTS_DESTINATION"].startswith("s3://")


@pytest.mark.parametrize("root", [*WHOLE, *SERVING])
def test_the_account_of_a_run_may_do_little(root: str) -> None:
    assert not of_kind(root, "ClusterRole", "ClusterRoleBinding")
    for role in of_kind(root, "Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert not set(rule["resources"]) & {"pods/exec", "roles", "rolebindings", "serviceaccounts/token"}
            if set(rule["resources"]) & {"secrets", "configmaps"}:
                assert rule["resourceNames"] and rule["verbs"] == ["get"]


@pytest.mark.parametrize("root", ROOTS)
def test_no_built_object_holds_a_secret(root: str) -> None:
    assert [secret for thing in build(root) for secret in secrets_in(thing)] == []


def test_no_file_holds_a_secret() -> None:
    documents = {
        f"{file}#{number}": thing
        for file in sorted(INFRA.rglob("*.yaml"))
        for number, thing in enumerate(yaml.safe_load_all(file.read_text()))
        if isinstance(thing, dict)
    }
    assert len(documents) > 20
    assert {name: secrets_in(thing) for name, thing in documents.items() if secrets_in(thing)} == {}
    assert list(INFRA.rglob("*.env")) == []


@pytest.mark.parametrize(
    "thing",
    [
        {"kind": "Secret", "data": {"key": "dmFsdWU="}},
        {"kind": "Secret", "stringData": {"key": "value"}},
        {"kind": "ConfigMap", "data": {"AWS_SECRET_ACCESS_KEY": "value"}},
        {"kind": "Kustomization", "secretGenerator": [{"name": "x", "literals": ["key=value"]}]},
        {
            "kind": "Kustomization",
            "configMapGenerator": [{"name": "x", "literals": ["MLFLOW_TRACKING_PASSWORD=value"]}],
        },
        {"kind": "Pod", "spec": {"containers": [{"env": [{"name": "PGPASSWORD", "value": "value"}]}]}},
        {"kind": "ConfigMap", "data": {"uri": "postgresql://someone:value@host/db"}},
    ],
    ids=lambda thing: thing["kind"],
)
def test_a_secret_in_a_file_is_found(thing: dict) -> None:
    assert secrets_in(thing)


def secrets_in(thing: dict) -> list[str]:
    """The places where an object contains the value of a secret instead of a reference."""
    found = []
    if thing.get("kind") == "Secret" and thing.keys() & {"data", "stringData"}:
        found.append("Secret")
    if thing.get("secretGenerator"):
        found.append("secretGenerator")
    for name, value in _named_values(thing):
        if SENSITIVE.search(name) or re.search(r"://[^/@\s]*:[^/@\s]+@", value):
            found.append(name)
    return found


def _named_values(node: Any) -> list[tuple[str, str]]:
    """Pairs that become variables or files of a container: of config maps, of their generators, of `env`."""
    if isinstance(node, list):
        return [pair for child in node for pair in _named_values(child)]
    if not isinstance(node, dict):
        return []
    pairs = [pair for child in node.values() for pair in _named_values(child)]
    if "name" in node and isinstance(node.get("value"), str):
        pairs.append((node["name"], node["value"]))
    pairs += [(name, value) for literal in node.get("literals", []) for name, _, value in [literal.partition("=")]]
    if node.get("kind") == "ConfigMap":
        pairs += [(name, value) for name, value in node.get("data", {}).items()]
    return pairs
