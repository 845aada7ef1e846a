"""docs/cluster.md and docs/nightly.md are followed literally, as far as this is possible without a cluster."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from components.shared.signing.keys import MOUNTED_KEY
from pipelines.cluster.placement import MLFLOW_KEYS, NOTIFY_KEYS, S3_KEYS
from pipelines.config.cluster import ClusterSettings
from pipelines.config.settings import load
from tests.infra.objects import INFRA, build, containers, of_kind, one, pod_specs
from tests.infra.page import WrongUsage, commands, mentioned, parse, section, shell_blocks, text_of

PAGES = ("cluster.md", "nightly.md", "rollout.md")
LAPTOP, REAL = "On a laptop", "On a real cluster"
OVERLAY = {LAPTOP: ("overlays/kind",), REAL: ("overlays/production", "restore")}
# Objects of Kubeflow Pipelines and Kubernetes; all other objects that a command names are ours.
THEIRS = {
    "deployment/ml-pipeline",
    "deployment/workflow-controller",
    "deployment/ml-pipeline-scheduledworkflow",
    "service/ml-pipeline",
    "svc/ml-pipeline-ui",
    "service/ml-pipeline-ui",
    "crd/applications.app.k8s.io",
    "namespace/kubeflow",
}
# The variables that libpq and the server of MLflow read, in a Secret that a container takes whole.
WHOLE = {
    "mlflow-database": {"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD"},
    "mlflow-server": {"MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD"},
    "mlflow-s3": set(S3_KEYS),
    "mlflow-backup-s3": set(S3_KEYS),
}
_OBJECT = re.compile(r"(--from=)?(job|cronjob|deployment|service|svc|crd|namespace)/[a-z][a-z0-9.-]+")
BLOCKS = [(page, number) for page in PAGES for number in range(len(shell_blocks(text_of(page))))]


@pytest.mark.parametrize(("page", "number"), BLOCKS)
def test_a_block_of_shell_can_be_parsed(page: str, number: int) -> None:
    block = shell_blocks(text_of(page))[number]
    done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "words", ["wikigpt submti", "wikigpt submit --imagine x", "wikigpt logs", "wikigpt schedule aply"]
)
def test_a_command_that_does_not_exist_would_be_noticed(words: str) -> None:
    with pytest.raises(WrongUsage):
        parse(words.split())


def made(title: str) -> dict[tuple[str, str], set[str]]:
    """The Secrets that the commands of a section make: keys by namespace and name."""
    found = {}
    lines = "\n".join(shell_blocks(section("cluster.md", title))).replace("\\\n", " ").splitlines()
    comments = {
        line.partition("generic ")[2].split()[0]: line.partition(" # ")[2] for line in lines if "generic" in line
    }
    for words in commands(section("cluster.md", title), "kubectl"):
        if "create" in words and "secret" in words:
            namespace, name = words[words.index("-n") + 1], words[words.index("generic") + 1]
            literals = {
                re.split("=", word.removeprefix("--from-literal="))[0] for word in words if "from-literal" in word
            } | {word.removeprefix("--from-file=") for word in words if word.startswith("--from-file=")}
            said = set(re.findall(r"\b[A-Z][A-Z0-9_]{4,}\b", comments[name]))
            if "the same two" in comments[name]:
                said = set(S3_KEYS)
            found[namespace, name] = literals or said
    return found


def mounted(title: str) -> dict[tuple[str, str], set[str]]:
    """The Secrets that the manifests, the launcher and the compiled pipeline read: keys by namespace and name."""
    found: dict[tuple[str, str], set[str]] = {}
    for root in OVERLAY[title]:
        for name, pod in pod_specs(root):
            namespace = name.partition("/")[0]
            for secret, keys in _keys_of(pod):
                found.setdefault((namespace, secret), set()).update(keys)
    root = OVERLAY[title][0]
    launcher = one(root, "ConfigMap", "kfp-launcher")
    reference = yaml.safe_load(launcher["data"]["providers"])["s3"]["default"]["credentials"]["secretRef"]
    settings = ClusterSettings()
    assert reference["secretName"] == settings.s3_secret
    home = launcher["metadata"]["namespace"]
    found[home, settings.s3_secret] = {reference["accessKeyKey"], reference["secretKeyKey"], *S3_KEYS}
    found[home, settings.mlflow_secret] = set(MLFLOW_KEYS)
    found[home, load("nightly").cluster.signing_secret] = {Path(MOUNTED_KEY).name, "public.pem"}
    (role,) = of_kind(root, "Role")
    named = [rule["resourceNames"] for rule in role["rules"] if "secrets" in rule["resources"]]
    assert named == [[settings.s3_secret]]
    return found


def _keys_of(pod: dict) -> list[tuple[str, set[str]]]:
    found = []
    for volume in pod["spec"].get("volumes", []):
        if secret := volume.get("secret"):
            mounts = [
                mount for one in containers(pod) for mount in one["volumeMounts"] if mount["name"] == volume["name"]
            ]
            paths = {Path(mount["mountPath"]).name for mount in mounts if "subPath" in mount}
            found.append((secret["secretName"], paths | {item["key"] for item in secret.get("items", [])}))
    for container in containers(pod):
        wholes = [source["secretRef"]["name"] for source in container.get("envFrom", []) if "secretRef" in source]
        found += [(name, WHOLE[name]) for name in wholes]
        references = [entry.get("valueFrom", {}).get("secretKeyRef") for entry in container.get("env", [])]
        found += [(reference["name"], {reference["key"]}) for reference in references if reference]
    return found


@pytest.mark.parametrize("title", [LAPTOP, REAL])
def test_the_secrets_that_are_made_are_those_that_are_mounted(title: str) -> None:
    optional = ("kubeflow", ClusterSettings().notify_secret)
    given, wanted = made(title), mounted(title)
    assert given.pop(optional, set(NOTIFY_KEYS)) == set(NOTIFY_KEYS)
    assert given.keys() == wanted.keys()
    for secret, keys in wanted.items():
        assert keys <= given[secret], secret
        known = keys | {"PGSSLMODE"} if keys else given[secret]  # libpq also reads this one, if it is given
        assert given[secret] <= known, secret


@pytest.mark.parametrize("page", [*PAGES, "../infra/README.md"])
def test_every_path_that_is_named_exists_and_every_overlay_builds(page: str) -> None:
    text = text_of(page)
    for path in set(re.findall(r"\binfra/[\w./-]*\w", text)):
        assert (INFRA.parent / path).exists(), path
    for words in commands(text, "kubectl"):
        if (
            "apply" in words
            and "-k" in words
            and not (target := words[words.index("-k") + 1]).startswith("github.com/")
        ):
            assert build(target.removeprefix("infra/"))


def test_every_object_that_a_command_names_is_there() -> None:
    ours = {
        f"{thing['kind'].lower()}/{re.sub('-[0-9a-z]{10}$', '', thing['metadata']['name'])}"
        for title in OVERLAY
        for root in OVERLAY[title]
        for thing in build(root)
    }
    text = text_of("cluster.md")
    named = set()
    for words in [*commands(text, "kubectl"), *mentioned(text, "kubectl")]:
        named |= {word.split("=")[-1] for word in words if _OBJECT.fullmatch(word)}
    assert {"job/buckets", "cronjob/mlflow-backup", "job/mlflow-restore", "deployment/mlflow"} <= named
    assert named <= ours | THEIRS


@pytest.mark.parametrize("patch", ["retries.yaml", "requeue.yaml"])
def test_kubectl_applies_the_patches_that_the_page_applies(patch: str, tmp_path: Path) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here")
    wanted = yaml.safe_load((INFRA / "kubeflow" / patch).read_text())
    name, (container,) = wanted["metadata"]["name"], wanted["spec"]["template"]["spec"]["containers"]
    (command,) = [
        words for words in commands(section("cluster.md", LAPTOP), "kubectl") if f"infra/kubeflow/{patch}" in words
    ]
    assert command[1:5] == ["-n", "kubeflow", "patch", f"deployment/{name}"]
    before = {"name": container["name"], "image": "x", "env": [{"name": container["env"][0]["name"], "value": "{}"}]}
    spec = {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}}}
    spec["template"]["spec"] = {"containers": [before]}
    path = tmp_path / "deployment.yaml"
    path.write_text(
        yaml.safe_dump({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})
    )
    local = [
        "kubectl",
        "patch",
        "--local",
        "-f",
        str(path),
        "--patch-file",
        str(INFRA / "kubeflow" / patch),
        "-o",
        "yaml",
    ]
    done = subprocess.run(local, capture_output=True, text=True, check=True)
    (after,) = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["containers"]
    assert (after["image"], after["env"]) == ("x", container["env"])


def test_the_page_says_what_was_seen_and_what_was_not() -> None:
    text = text_of("cluster.md")
    assert "No cluster was at hand" not in text
    seen = section("cluster.md", "What was seen, and what was not")
    assert "Kubeflow Pipelines 2.17.0" in seen and "**Not seen** on a cluster" in seen
    time = section("cluster.md", "Time")
    for fact in ("DEFAULT_REQUEUE_TIME=1s", "13 pods", "80 s", "121 s", "about 20 s a task", "64 s"):
        assert fact in time


@pytest.mark.parametrize("key", ["queue", "priority"])
def test_the_settings_of_the_queue_are_described(key: str) -> None:
    assert key in ClusterSettings.__dataclass_fields__
    assert f"`cluster.{key}`" in section("cluster.md", REAL)
