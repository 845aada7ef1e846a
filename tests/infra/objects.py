"""The objects that kustomize builds from infra/."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

INFRA = Path(__file__).parents[2] / "infra"
WHOLE = ("overlays/kind", "overlays/production")
SERVING = ("overlays/kind-serving", "overlays/production-serving")
ROOTS = (*WHOLE, *SERVING, "restore")
# These pods use the API of Kubernetes; all others hold no token of the cluster.
WITH_TOKEN = {"wikigpt-serving/wikigpt-rollout", "wikigpt-serving/wikigpt-rollout-webhook"}

Object = dict[str, Any]


@cache
def build(root: str) -> tuple[Object, ...]:
    """The objects that `kubectl apply -k infra/<root>` sends."""
    known = [command for command in (["kustomize", "build"], ["kubectl", "kustomize"]) if shutil.which(command[0])]
    if not known:
        pytest.skip("no kustomize here: install kustomize or kubectl")
    done = subprocess.run([*known[0], str(INFRA / root)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(root: str, *kinds: str) -> list[Object]:
    return [thing for thing in build(root) if thing["kind"] in kinds]


def one(root: str, kind: str, name: str) -> Object:
    """The object of a kind with a name, without the suffix that kustomize adds as a hash of its content."""
    wanted = re.compile(rf"{name}(-[0-9a-z]{{10}})?")
    (found,) = [thing for thing in of_kind(root, kind) if wanted.fullmatch(thing["metadata"]["name"])]
    return found


def pod_specs(root: str) -> Iterator[tuple[str, Object]]:
    """Every pod that the objects make, with its namespace and name."""
    for thing in build(root):
        template = thing.get("spec", {}).get("jobTemplate", thing).get("spec", {}).get("template")
        if template:
            yield f"{thing['metadata']['namespace']}/{thing['metadata']['name']}", template


def containers(pod: Object) -> list[Object]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
