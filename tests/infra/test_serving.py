"""The server of the champion: what the rollout relies on, both engines, the probe, and KServe."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import kubernetes_validate
import pytest
import yaml
from mlflow import MlflowClient

from components.shared.signing.keys import PUBLIC_KEY
from pipelines.cli.app import app
from pipelines.registry.export import export
from pipelines.registry.references import resolve
from pipelines.serving.completions import NAME as MODEL
from pipelines.serving.rollout_state import LIVE, ROLLOUT, VERSION
from tests.http_servers import free_port, serving
from tests.infra.objects import INFRA, SERVING, build, containers, of_kind, one, pod_specs
from tests.infra.page import parse
from tests.pipelines.registry.conftest import _filled, filled  # noqa: F401
from tests.pipelines.serving.stand_in import NAME, NAMESPACE

PROBE = INFRA / "serving" / "probe" / "completion.py"
# The fields of KServe's `ComponentExtensionSpec` (pkg/apis/serving/v1beta1/component.go at 017d86a): what a predictor
# has besides the fields of a pod.
EXTENSION = {
    *("minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "containerConcurrency", "timeout"),
    *("canaryTrafficPercent", "logger", "batcher", "labels", "annotations", "deploymentStrategy"),
}


def served(root: str) -> dict[str, Any]:
    (deployment,) = [each for each in of_kind(root, "Deployment") if each["metadata"]["name"] == NAME]
    assert deployment["metadata"]["namespace"] == NAMESPACE
    return deployment


@pytest.mark.parametrize("root", SERVING)
def test_the_rollout_finds_the_strategy_that_it_relies_on_and_owns_the_other_fields(root: str) -> None:
    spec = served(root)["spec"]
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert not spec.keys() & {"replicas", "minReadySeconds", "progressDeadlineSeconds", "paused"}
    annotated = {**served(root)["metadata"], **spec["template"]["metadata"]}.get("annotations", {})
    assert not annotated.keys() & {VERSION, ROLLOUT, LIVE}
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("root", SERVING)
def test_a_pod_gets_one_version_by_number(root: str) -> None:
    (download,) = served(root)["spec"]["template"]["spec"]["initContainers"]
    (version,) = download["env"]
    assert version["name"] == "WIKIGPT_VERSION"
    assert version["valueFrom"]["fieldRef"]["fieldPath"] == f"metadata.annotations['{VERSION}']"
    shell = download["command"][-1]
    assert 'exec wikigpt export "models:/$WIKIGPT_MODEL/$WIKIGPT_VERSION" /models/wikigpt' in shell
    assert "champion" not in json.dumps(served(root))


@pytest.mark.parametrize("folder", ["fresh", "complete"])
def test_the_download_is_skipped_only_if_the_files_are_complete(folder: str, tmp_path: Path) -> None:
    """Runs the shell of the init container with another program in the place of `wikigpt`."""
    (download,) = served(SERVING[0])["spec"]["template"]["spec"]["initContainers"]
    shell = download["command"][-1].replace("/models", str(tmp_path / "models"))
    program = tmp_path / "wikigpt"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called\n')
    program.chmod(0o755)
    if folder == "complete":
        (tmp_path / "models" / "wikigpt").mkdir(parents=True)
        (tmp_path / "models" / "wikigpt" / "config.json").write_text("{}")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "WIKIGPT_MODEL": "wikigpt", "WIKIGPT_VERSION": "7"}
    subprocess.run(["sh", "-c", shell], env=environment, check=True)
    called = (tmp_path / "called").read_text().split() if (tmp_path / "called").exists() else []
    expected = ["export", "models:/wikigpt/7", str(tmp_path / "models" / "wikigpt")]
    assert called == ([] if folder == "complete" else expected)


@pytest.mark.parametrize("root", SERVING)
def test_every_engine_serves_the_model_by_the_name_that_clients_use(root: str) -> None:
    (server,) = served(root)["spec"]["template"]["spec"]["containers"]
    words = [*server["command"], *server["args"]]
    assert "--host=0.0.0.0" in words and "--port=8000" in words
    by_path = server["workingDir"] == "/models" and words[words.index("serve") + 1] == MODEL
    assert by_path or f"--served-model-name={MODEL}" in words
    assert server["ports"] == [{"containerPort": 8000, "name": "http"}]
    for probe in ("startupProbe", "readinessProbe"):
        *command, seconds = server[probe]["exec"]["command"]
        assert command == ["python3", f"/probe/{PROBE.name}"]
        assert float(seconds) < server[probe]["timeoutSeconds"]
    mounts = {mount["name"]: mount for mount in server["volumeMounts"]}
    assert mounts["models"]["readOnly"] and mounts["probe"]["readOnly"]


@pytest.mark.parametrize("root", SERVING)
def test_load_alone_takes_no_pod_out_of_the_service_within_a_minute(root: str) -> None:
    readiness = served(root)["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]
    assert readiness["timeoutSeconds"] >= 30 and readiness["failureThreshold"] >= 6
    assert readiness["periodSeconds"] * readiness["failureThreshold"] >= 60


def test_an_engine_that_drops_its_open_requests_when_it_is_told_to_end_gets_time_before() -> None:
    cpu, gpu = (served(root)["spec"]["template"]["spec"] for root in SERVING)
    for pod in (cpu, gpu):
        (command,) = [each["lifecycle"]["preStop"]["exec"]["command"] for each in pod["containers"]]
        assert command[0] == "sleep" and float(command[1]) + 30 <= pod["terminationGracePeriodSeconds"]
    assert gpu["containers"][0]["command"][0] == "vllm"
    assert float(gpu["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1]) >= 60


def test_torch_has_as_many_threads_as_the_container_has_cores() -> None:
    (server,) = served(SERVING[0])["spec"]["template"]["spec"]["containers"]
    (threads,) = [each for each in server["env"] if each["name"] == "OMP_NUM_THREADS"]
    assert threads["valueFrom"] == {"resourceFieldRef": {"resource": "limits.cpu"}}
    assert server["resources"]["limits"]["cpu"].isdecimal()


@pytest.mark.parametrize("root", SERVING)
def test_service_and_budget_select_the_pods_of_the_server_only(root: str) -> None:
    labels = served(root)["spec"]["template"]["metadata"]["labels"]
    service = one(root, "Service", NAME)["spec"]["selector"]
    budget = one(root, "PodDisruptionBudget", NAME)["spec"]["selector"]["matchLabels"]
    others = [pod["metadata"]["labels"] for name, pod in pod_specs(root) if name != f"{NAMESPACE}/{NAME}"]
    for selector in (service, budget):
        assert selector.items() <= labels.items()
        assert not [other for other in others if selector.items() <= other.items()]


@pytest.mark.parametrize("root", SERVING)
def test_the_rollout_runs_a_command_that_exists_with_the_rights_that_it_uses(root: str) -> None:
    (pod,) = [pod for name, pod in pod_specs(root) if name == f"{NAMESPACE}/wikigpt-rollout"]
    (container,) = containers(pod)
    parse(container["command"])
    (job,) = [each for each in of_kind(root, "CronJob") if each["metadata"]["name"] == "wikigpt-rollout"]
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert job["spec"]["jobTemplate"]["spec"]["backoffLimit"] == 0
    (role,) = [each for each in of_kind(root, "Role") if each["metadata"]["name"] == "wikigpt-rollout"]
    may = {(*rule["resources"], *rule.get("resourceNames", []), *rule["verbs"]) for rule in role["rules"]}
    assert may == {("deployments", NAME, "get", "patch"), ("pods", "list"), ("leases", NAME, "get", "update")}
    assert one(root, "Lease", NAME)["metadata"]["namespace"] == NAMESPACE
    defaults = {each.name: each.default for each in app_command("rollout").params}
    assert (defaults["namespace"], defaults["deployment"], defaults["port"]) == (NAMESPACE, NAME, 8000)


def app_command(name: str) -> Any:
    import typer

    return typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]


def test_mlflow_reaches_the_receiver_of_its_webhook_and_nobody_else_does() -> None:
    root = SERVING[0]
    (pod,) = [pod for name, pod in pod_specs(root) if name == f"{NAMESPACE}/wikigpt-rollout-webhook"]
    (receiver,) = containers(pod)
    parse(receiver["command"])
    labels, port = pod["metadata"]["labels"], receiver["ports"][0]["containerPort"]
    assert f"--listen={port}" in receiver["command"]
    service = one(root, "Service", "wikigpt-rollout-webhook")["spec"]
    assert service["selector"].items() <= labels.items()
    (others,) = [pod["metadata"]["labels"] for name, pod in pod_specs(root) if name == f"{NAMESPACE}/wikigpt-rollout"]
    assert not service["selector"].items() <= others.items()
    (out,) = one(root, "NetworkPolicy", "mlflow-to-webhook")["spec"]["egress"]
    assert out["to"][0]["podSelector"]["matchLabels"].items() <= labels.items()
    assert out["ports"] == [{"port": port, "protocol": "TCP"}]
    (admitted,) = one(root, "NetworkPolicy", "wikigpt-rollout-webhook")["spec"]["ingress"]
    assert [peer["podSelector"]["matchLabels"] for peer in admitted["from"]] == [{"app.kubernetes.io/name": "mlflow"}]
    settings = one(root, "ConfigMap", "mlflow")["data"]
    assert settings["MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS"] == "true"
    assert "http" in settings["MLFLOW_WEBHOOK_ALLOWED_SCHEMES"].split(",")
    assert not [key for key in one(SERVING[1], "ConfigMap", "mlflow")["data"] if "WEBHOOK" in key]


@pytest.mark.parametrize("root", SERVING)
def test_the_registry_lets_in_what_is_let_out_to_it(root: str) -> None:
    policies = {
        (each["metadata"]["namespace"], each["metadata"]["name"]): each["spec"]
        for each in of_kind(root, "NetworkPolicy")
    }
    (rule,) = policies["wikigpt", "mlflow-from-serving"]["ingress"]
    admitted = rule["from"][0]["podSelector"]["matchExpressions"][0]["values"]
    assert rule["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": NAMESPACE}
    for name in admitted:
        policy = policies[NAMESPACE, name]
        assert policy["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": name}
        assert any({"port": 5000, "protocol": "TCP"} in rule["ports"] for rule in policy["egress"])
    assert set(admitted) == {NAME, "wikigpt-rollout"}


class Engine(BaseHTTPRequestHandler):
    """An engine that answers with `answer`."""

    answer: bytes = b""
    status = 200
    asked: ClassVar[dict[str, Any]] = {}

    def do_POST(self) -> None:
        type(self).asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.answer)


@pytest.fixture
def engine() -> Iterator[tuple[type[Engine], str]]:
    class Own(Engine):
        pass

    with serving(Own) as address:
        yield Own, address


def probe(address: str, tmp_path: Path) -> tuple[int, str]:
    """Runs the probe as the container does, at another address."""
    script = tmp_path / PROBE.name
    script.write_text(PROBE.read_text().replace("http://127.0.0.1:8000", address))
    done = subprocess.run([sys.executable, "-I", str(script), "8"], capture_output=True, text=True, check=False)
    assert len(done.stderr.splitlines()) <= 1
    return done.returncode, done.stderr


def test_a_server_that_completes_a_text_is_ready(engine: tuple[type[Engine], str], tmp_path: Path) -> None:
    # serving() makes a subclass of its own, on which the handler stores what it was asked.
    kind, address = engine
    kind.answer = b'{"choices": [{"text": " castle"}]}'
    assert probe(address, tmp_path) == (0, "")


@pytest.mark.parametrize(
    ("status", "answer"),
    [(500, b"no"), (200, b"no"), (200, b'{"choices": []}'), (200, b'{"choices": [{"text": null}]}'), (200, b"[]")],
)
def test_a_server_that_answers_anything_else_is_not_ready(
    status: int, answer: bytes, engine: tuple[type[Engine], str], tmp_path: Path
) -> None:
    kind, address = engine
    kind.status, kind.answer = status, answer
    code, said = probe(address, tmp_path)
    assert code == 1
    assert said.startswith("The server ")


def test_a_server_that_does_not_listen_is_not_ready(tmp_path: Path) -> None:
    code, said = probe(f"http://127.0.0.1:{free_port()}", tmp_path)
    assert (code, "refused" in said) == (1, True)


@pytest.mark.slow
def test_the_command_of_the_deployment_serves_an_exported_version_and_becomes_ready(
    filled: MlflowClient,  # noqa: F811
    tmp_path: Path,
) -> None:
    (server,) = served(SERVING[0])["spec"]["template"]["spec"]["containers"]
    port = free_port()
    words = [sys.executable, *server["command"][1:], *server["args"]]
    words = [word.replace("--port=8000", f"--port={port}").replace("0.0.0.0", "127.0.0.1") for word in words]
    export(filled, resolve(filled, "1"), tmp_path / "models" / MODEL)
    environment = {each["name"]: each["value"] for each in server["env"] if "value" in each}
    environment |= {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    address = f"http://127.0.0.1:{port}"
    with open(tmp_path / "server.log", "wb") as log:
        running = subprocess.Popen(words, cwd=tmp_path / "models", env=environment, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 120
            while (answer := probe(address, tmp_path))[0] and running.poll() is None and time.monotonic() < until:
                time.sleep(0.5)
            assert answer == (0, ""), (tmp_path / "server.log").read_text()[-2000:]
            path = server["livenessProbe"]["httpGet"]["path"]
            assert urllib.request.urlopen(address + path, timeout=10).status == 200
        finally:
            running.kill()
            running.wait()


def test_the_inference_service_is_a_pod_with_the_fields_of_kserve() -> None:
    """KServe's schema is not at hand: a predictor is its extension and the fields of a pod, which are checked."""
    (service,) = [each for each in build("kserve") if each["kind"] == "InferenceService"]
    assert service["spec"].keys() == {"predictor"}
    predictor = service["spec"]["predictor"]
    extension = {key: value for key, value in predictor.items() if key in EXTENSION}
    pod = {key: value for key, value in predictor.items() if key not in EXTENSION}
    metadata = {"name": "wikigpt", "labels": extension["labels"]}
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}, version, strict=True
    )
    template = {"metadata": metadata, "spec": pod}
    spec = {"selector": {"matchLabels": extension["labels"]}, "template": template}
    spec["strategy"] = extension["deploymentStrategy"]
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    kubernetes_validate.validate(deployment, version, strict=True)
    for thing in build("kserve"):
        if thing["kind"] != "InferenceService":
            kubernetes_validate.validate(thing, version, strict=True)
    assert [container["name"] for container in pod["containers"]] == ["kserve-container"]


def test_kserve_runs_the_same_containers_as_the_deployment() -> None:
    (service,) = [each for each in build("kserve") if each["kind"] == "InferenceService"]
    predictor, own = service["spec"]["predictor"], served(SERVING[0])["spec"]["template"]["spec"]
    assert predictor["labels"] != own and predictor["labels"]["app.kubernetes.io/name"] != NAME
    theirs, ours = predictor["containers"][0], own["containers"][0]
    for key in (
        "command",
        "args",
        "env",
        "resources",
        "securityContext",
        "startupProbe",
        "readinessProbe",
        "lifecycle",
    ):
        assert theirs[key] == ours[key], key
    port = ours["ports"][0]["containerPort"]
    assert theirs["livenessProbe"] == ours["livenessProbe"] | {"httpGet": {"path": "/health", "port": port}}
    assert yaml.safe_dump(theirs["volumeMounts"]) == yaml.safe_dump(ours["volumeMounts"])
    assert ours.keys() - theirs.keys() == set()
    assert predictor["initContainers"][0]["command"] == own["initContainers"][0]["command"]
    of_kserve = {"initContainers", "containers", "volumes", "serviceAccountName", "topologySpreadConstraints"}
    for key in own.keys() - of_kserve:
        assert predictor[key] == own[key], key
    (budget,) = [each["spec"] for each in build("kserve") if each["kind"] == "PodDisruptionBudget"]
    assert budget["selector"]["matchLabels"].items() <= predictor["labels"].items()
    assert budget["maxUnavailable"] == one(SERVING[0], "PodDisruptionBudget", NAME)["spec"]["maxUnavailable"]


def test_kserve_verifies_what_it_downloads_if_it_is_given_the_public_key() -> None:
    (service,) = [each for each in build("kserve") if each["kind"] == "InferenceService"]
    assert PUBLIC_KEY in {each["name"] for each in service["spec"]["predictor"]["initContainers"][0]["env"]}


def test_kserve_can_be_deleted_without_an_object_of_the_deployment() -> None:
    def of(root: str) -> set[tuple[str, str, str]]:
        named = [(each["kind"], each["metadata"]) for each in build(root)]
        return {(kind, metadata.get("namespace", ""), metadata["name"]) for kind, metadata in named}

    assert [root for root in SERVING if of(root) & of("kserve")] == []
    (service,) = [each for each in build("kserve") if each["kind"] == "InferenceService"]
    (probe,) = [each["metadata"]["name"] for each in build("kserve") if each["kind"] == "ConfigMap"]
    volumes = service["spec"]["predictor"]["volumes"]
    assert [each["configMap"]["name"] for each in volumes if "configMap" in each] == [probe]
