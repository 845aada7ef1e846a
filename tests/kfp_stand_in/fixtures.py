"""Fixtures over the stand-in, for conftest files to take in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cluster.access import Access
from pipelines.cluster.connection import Cluster, connect
from tests.kfp_stand_in.server import StandIn, serving


@pytest.fixture
def stand_in(real_data: Path, monkeypatch, tmp_path: Path) -> Iterator[StandIn]:
    """A stand-in; afterwards every request and answer must have fitted the published API."""
    swagger = real_data / "kfp-api-v2beta1.swagger.json"
    if not swagger.is_file():
        pytest.skip(f"no published API here: {swagger}")
    for name in ("KF_PIPELINES_ENDPOINT", "KF_PIPELINES_SA_TOKEN_PATH", "KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("pipelines.cluster.connection._FIRST_PAUSE", 0.01)
    with serving(swagger) as server:
        yield server
    assert server.violations == []


@pytest.fixture
def cluster(stand_in: StandIn) -> Cluster:
    """A connection to the stand-in."""
    return connect(Access(endpoint=stand_in.url, timeout=5))
