"""Connections to Kubeflow Pipelines: each way to connect, and each failure as one sentence with its exit code."""

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from urllib3.exceptions import MaxRetryError, SSLError

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.access import Access
from pipelines.cluster.connection import connect
from pipelines.cluster.errors import failure_of
from tests.http_servers import serving
from tests.kfp_stand_in.recorded import recorded
from tests.kfp_stand_in.server import Fault


def test_an_open_server(stand_in):
    cluster = connect(Access(endpoint=stand_in.url))
    assert (cluster.address, cluster.namespace) == (stand_in.url, None)
    assert stand_in.requests == ["HealthzService_GetHealthz"]


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        (
            "ftp://pipelines.example",
            "begins with ftp:// (pipelines.example): give http://pipelines.example or https://",
        ),
        ("localhost:8888", "has no scheme (localhost:8888): give http://localhost:8888 or https://localhost:8888"),
        ("pipelines.example/pipeline", "has no scheme (pipelines.example/pipeline): give http://pipelines.example/"),
        ("me:hunter2@pipelines.example", "has no scheme (pipelines.example): give http://pipelines.example or https:"),
        ("not a url", "has no scheme"),
    ],
)
def test_an_address_without_http_or_https(endpoint, sentence):
    with pytest.raises(Failure) as caught:
        connect(Access(endpoint=endpoint))
    assert str(caught.value).startswith(f"The address of Kubeflow Pipelines {sentence}")
    assert caught.value.exit_code is ExitCode.USAGE
    assert "hunter2" not in str(caught.value)


def test_https_on_a_plain_port(stand_in):
    with pytest.raises(Failure) as caught:
        connect(Access(endpoint=stand_in.url.replace("http://", "https://"), timeout=5))
    assert str(caught.value).startswith("The server speaks plain HTTP, and the address begins with https:// (https://")
    assert caught.value.exit_code is ExitCode.UNREACHABLE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A key and a self-signed certificate for 127.0.0.1 in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubeflow")])
    now, address = datetime.now(UTC), x509.IPAddress(ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, SHA256())
    )
    plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(key.private_bytes(*plain) + made.public_bytes(Encoding.PEM))
    return path


@contextmanager
def answering(status: int, body: bytes, certificate: Path | None = None) -> Iterator[str]:
    """A server with one answer to every GET, with or without TLS; yields host and port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    with serving(Handler, context) as address:
        yield address.removeprefix("http://")


HEALTH = json.dumps(recorded("rest/healthz")).encode()


@pytest.fixture
def quickly(monkeypatch):
    monkeypatch.setattr("pipelines.cluster.connection._FIRST_PAUSE", 0.01)


def test_http_on_a_port_that_speaks_tls(quickly, certificate):
    with answering(200, HEALTH, certificate) as host, pytest.raises(Failure) as caught:
        connect(Access(endpoint=f"http://{host}", timeout=5))
    assert str(caught.value) == (
        f"The server speaks TLS, and the address begins with http:// (http://{host}): give https://{host}."
    )
    assert caught.value.exit_code is ExitCode.UNREACHABLE


def test_a_certificate_that_nobody_vouches_for(quickly, certificate):
    with answering(200, HEALTH, certificate) as host:
        with pytest.raises(Failure, match=r"certificate of the server is not trusted.*KF_PIPELINES_CA_CERT") as caught:
            connect(Access(endpoint=f"https://{host}", timeout=5))
        assert caught.value.exit_code is ExitCode.UNREACHABLE
        assert (
            connect(Access(endpoint=f"https://{host}", ca_cert=str(certificate), timeout=5)).version
            == "2.17.0 4a3592cb2dd0"
        )


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"404 page not found\n"),  # the answer of Go's server, as at a wrong path of an ingress
        (404, b'{"code":5,"message":"Not Found","details":[]}'),
        (200, b'{"status": "ok"}'),
        (200, b"[]"),
        (200, b"7"),
    ],
)
def test_a_server_that_is_not_kubeflow_pipelines(quickly, status, body):
    with answering(status, body) as host, pytest.raises(Failure) as caught:
        connect(Access(endpoint=f"http://{host}/wrong", timeout=5))
    assert str(caught.value) == (
        f"The address answers, but there is no API of Kubeflow Pipelines below it (http://{host}/wrong): give the"
        " address below which /apis/v2beta1 is, as https://host/pipeline is on a full Kubeflow."
    )
    assert caught.value.exit_code is ExitCode.UNREACHABLE


def test_a_password_in_the_address_is_not_shown(stand_in):
    endpoint = stand_in.url.replace("http://", "http://me:hunter2@")
    stand_in.faults.append(Fault("error", times=9))
    with pytest.raises(Failure) as caught:
        connect(Access(endpoint=endpoint, timeout=5))
    assert "hunter2" not in str(caught.value)


def test_the_server_s_version(stand_in):
    assert connect(Access(endpoint=stand_in.url)).version == "2.17.0 4a3592cb2dd0"
    stand_in.state.health.update(commit_sha="unknown")
    assert connect(Access(endpoint=stand_in.url)).version == "2.17.0"
    stand_in.state.health.update(tag_name="unknown")
    assert connect(Access(endpoint=stand_in.url)).version == ""


def test_a_token(stand_in):
    stand_in.token = "good"
    connect(Access(endpoint=stand_in.url, token="good"))
    with pytest.raises(Failure, match="does not accept the credentials: the token has expired") as caught:
        connect(Access(endpoint=stand_in.url, token="stale"))
    assert caught.value.exit_code is ExitCode.UNAUTHORISED
    assert "stale" not in str(caught.value)


def test_a_token_is_not_shown():
    assert "secret" not in repr(Access(token="secret", cookies="session=secret"))


def test_cookies_of_a_session(stand_in):
    stand_in.cookie = "authservice_session=abc"
    connect(Access(endpoint=stand_in.url, cookies="authservice_session=abc"))
    with pytest.raises(Failure, match="redirects to a login page") as caught:
        connect(Access(endpoint=stand_in.url))
    assert caught.value.exit_code is ExitCode.UNAUTHORISED


def test_the_token_of_a_service_account_is_read_anew_for_each_request(stand_in, monkeypatch, tmp_path):
    token = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    with pytest.raises(Failure, match="token of the service account does not exist"):
        connect(Access(endpoint=stand_in.url))
    token.write_text("first")
    stand_in.token = "first"
    cluster = connect(Access(endpoint=stand_in.url))
    stand_in.token = "renewed"
    token.write_text("renewed")
    cluster.call_with_retry("health", cluster.client.healthzs.healthz_service_get_healthz)


def test_the_kubeconfig_leads_through_the_proxy_of_kubernetes(stand_in, kubeconfig):
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


@pytest.mark.parametrize("endpoint", ["http://not a url", "http://", "http://[::1", "http://host:99999"])
def test_an_address_that_cannot_be_read(endpoint):
    with pytest.raises(Failure, match="The address cannot be read") as caught:
        connect(Access(endpoint=endpoint))
    assert caught.value.exit_code is ExitCode.USAGE


def test_an_address_copied_from_the_browser(stand_in):
    assert connect(Access(endpoint=f"{stand_in.url}/#/runs")).address == stand_in.url


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000)", "The server speaks plain HTTP"),
        ("[SSL: RECORD_LAYER_FAILURE] record layer failure (_ssl.c:1006)", "The server speaks plain HTTP"),
        ("certificate verify failed: Hostname mismatch, certificate is not valid for", "is for another name"),
        ("certificate verify failed: self-signed certificate", "is not trusted"),
        ("[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version", "The TLS connection to the server failed"),
    ],
)
def test_what_openssl_says_in_one_sentence(said, sentence):
    failure = failure_of(MaxRetryError(None, "/", SSLError(said)), "https://kubeflow.example", "run 4711")
    assert failure.exit_code is ExitCode.UNREACHABLE
    assert sentence in str(failure)


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
