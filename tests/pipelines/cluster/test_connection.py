"""Reaching Kubeflow Pipelines: each way in, and each way to fail, in one sentence with its exit code."""

import socket

import pytest
from urllib3.exceptions import MaxRetryError, SSLError

from components.shared.failure import ExitCode, Failure
from pipelines.cluster.access import Access
from pipelines.cluster.connection import connect
from pipelines.cluster.errors import failure_of
from tests.kfp_stand_in.server import Fault


def test_an_open_server(stand_in):
    cluster = connect(Access(endpoint=stand_in.url))
    assert (cluster.address, cluster.namespace) == (stand_in.url, None)
    assert stand_in.requests == ["HealthzService_GetHealthz"]


def test_an_address_of_another_kind():
    with pytest.raises(Failure, match="begins with ftp://") as caught:
        connect(Access(endpoint="ftp://pipelines.example"))
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_token(stand_in):
    stand_in.token = "good"
    connect(Access(endpoint=stand_in.url, token="good"))
    with pytest.raises(Failure, match="does not accept who we are: the token has expired") as caught:
        connect(Access(endpoint=stand_in.url, token="stale"))
    assert caught.value.exit_code is ExitCode.UNAUTHORISED
    assert "stale" not in str(caught.value)


def test_a_token_is_not_shown():
    assert "secret" not in repr(Access(token="secret", cookies="session=secret"))


def test_cookies_of_a_session(stand_in):
    stand_in.cookie = "authservice_session=abc"
    connect(Access(endpoint=stand_in.url, cookies="authservice_session=abc"))
    with pytest.raises(Failure, match="sends to a page for logging in") as caught:
        connect(Access(endpoint=stand_in.url))
    assert caught.value.exit_code is ExitCode.UNAUTHORISED


def test_the_token_of_a_service_account_is_read_anew_for_each_request(stand_in, monkeypatch, tmp_path):
    token = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    with pytest.raises(Failure, match="token of the service account is not there"):
        connect(Access(endpoint=stand_in.url))
    token.write_text("first")
    stand_in.token = "first"
    cluster = connect(Access(endpoint=stand_in.url))
    stand_in.token = "renewed"
    token.write_text("renewed")
    cluster.read("health", cluster.client.healthzs.healthz_service_get_healthz)


def test_the_kubeconfig_leads_through_the_proxy_of_kubernetes(stand_in, tmp_path):
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
    stand_in.token = "mine"
    assert "/services/ml-pipeline:http/proxy" in connect(Access()).address


def test_a_server_for_several_users_needs_a_namespace(stand_in):
    stand_in.state.health["multi_user"] = True
    with pytest.raises(Failure, match="for several users, and no namespace") as caught:
        connect(Access(endpoint=stand_in.url))
    assert caught.value.exit_code is ExitCode.USAGE
    assert connect(Access(endpoint=stand_in.url, namespace="team")).namespace == "team"


def test_no_address(stand_in):
    with pytest.raises(Failure, match="No address of Kubeflow Pipelines is known") as caught:
        connect(Access())
    assert caught.value.exit_code is ExitCode.USAGE


def test_nothing_listens(monkeypatch):
    monkeypatch.setattr("pipelines.cluster.connection._FIRST_PAUSE", 0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Failure, match="Nothing listens at the address") as caught:
            connect(Access(endpoint=endpoint))
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert endpoint in str(caught.value)


def test_an_unknown_host(monkeypatch):
    monkeypatch.setattr("pipelines.cluster.connection._FIRST_PAUSE", 0.01)
    with pytest.raises(Failure) as caught:
        connect(Access(endpoint="http://kubeflow.invalid", timeout=2))
    assert caught.value.exit_code is ExitCode.UNREACHABLE


@pytest.mark.parametrize("endpoint", ["not a url", "http://", "http://[::1", "http://host:99999"])
def test_an_address_that_cannot_be_read(endpoint):
    with pytest.raises(Failure, match="The address cannot be read") as caught:
        connect(Access(endpoint=endpoint))
    assert caught.value.exit_code is ExitCode.USAGE


def test_an_address_copied_from_the_browser(stand_in):
    assert connect(Access(endpoint=f"{stand_in.url}/#/runs")).address == stand_in.url


def test_a_certificate_that_nobody_vouches_for():
    error = MaxRetryError(None, "/", SSLError("certificate verify failed: self-signed certificate"))
    failure = failure_of(error, "https://kubeflow.example", "run 4711")
    assert failure.exit_code is ExitCode.UNREACHABLE
    assert "not trusted: certificate verify failed" in str(failure)
    assert "KF_PIPELINES_CA_CERT" in str(failure)


def test_a_web_page(stand_in):
    stand_in.faults.append(Fault("page", times=9))
    with pytest.raises(Failure, match="answers with a web page, not with the API") as caught:
        connect(Access(endpoint=stand_in.url))
    assert caught.value.exit_code is ExitCode.UNREACHABLE


@pytest.mark.parametrize("fault", [Fault("error", times=2), Fault("drop", times=2), Fault("error", status=503)])
def test_a_server_that_stumbles_is_asked_again(stand_in, fault):
    stand_in.faults.append(fault)
    connect(Access(endpoint=stand_in.url))
    assert len(stand_in.requests) > 1


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault("error", times=9), "Kubeflow Pipelines answered 500: injected by the test"),
        (Fault("drop", times=9), "The connection to Kubeflow Pipelines broke"),
        (Fault("slow", times=9, seconds=0.2), "Kubeflow Pipelines did not answer in time"),
    ],
)
def test_a_server_that_stays_broken_is_one_sentence(stand_in, fault, sentence):
    stand_in.faults.append(fault)
    with pytest.raises(Failure, match=sentence) as caught:
        connect(Access(endpoint=stand_in.url, timeout=0.05))
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert "\n" not in str(caught.value)
