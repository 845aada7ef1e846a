"""Fixtures of the stand-in, which conftest files import."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cluster.access import Access
from pipelines.cluster.connection import Cluster, connect
from tests.kfp_stand_in.server import StandIn, serving

VARIABLES = (
    "KF_PIPELINES_ENDPOINT",
    "KF_PIPELINES_ROOT",
    "KF_PIPELINES_SA_TOKEN_PATH",
    "KUBECONFIG",
    "KUBERNETES_SERVICE_HOST",
)


@pytest.fixture
def stand_in(monkeypatch, tmp_path: Path) -> Iterator[StandIn]:
    """A stand-in; afterwards every request and answer must have conformed to the published API."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("pipelines.cluster.connection._FIRST_PAUSE", 0.01)
    with serving() as server:
        yield server
    assert server.violations == []


@pytest.fixture
def cluster(stand_in: StandIn) -> Cluster:
    """A connection to the stand-in."""
    return connect(Access(endpoint=stand_in.url, timeout=5))


@pytest.fixture
def kubeconfig(stand_in: StandIn, tmp_path: Path) -> Access:
    """A kubeconfig that leads to the stand-in, and the access that uses it."""
    config = tmp_path / ".kube" / "config"
    config.parent.mkdir()
    config.write_text(
        f"""
apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
clusters: [{{name: here, cluster: {{server: {stand_in.url}}}}}]
users: [{{name: me, user: {{token: mine}}}}]
"""
    )
    return Access(endpoint=stand_in.url, timeout=5)
