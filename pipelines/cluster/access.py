"""The address and the credentials of Kubeflow Pipelines, and kfp's client without requests in its constructor."""

from __future__ import annotations

import os
import socket
import ssl
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp
import kfp_server_api
import urllib3
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials

from components.shared.base.failure import ExitCode, Failure


@dataclass(frozen=True, kw_only=True)
class Access:
    """The address and the credentials of Kubeflow Pipelines.

    Attributes:
        endpoint: the address of the server; None uses the cluster of this pod, or that of the kubeconfig.
        namespace: the namespace of the runs. A multi-user server needs it.
        token: a bearer token.
        cookies: the cookies of a session, such as `authservice_session=…`.
        ca_cert: the file with the certificate authority of the server.
        kube_context: the context of the kubeconfig.
        timeout: the seconds that one request may take.
    """

    endpoint: str | None = None
    namespace: str | None = None
    token: str | None = field(default=None, repr=False)
    cookies: str | None = field(default=None, repr=False)
    ca_cert: str | None = None
    kube_context: str | None = None
    timeout: float = 30.0


def resolve_access(endpoint: str | None, namespace: str | None) -> Access:
    """Combines the options with the environment.

    Credentials come from KF_PIPELINES_TOKEN and KF_PIPELINES_COOKIES. They are not options, since every process of this
    machine can read the arguments of others.
    """
    return Access(
        endpoint=endpoint,
        namespace=namespace,
        token=os.environ.get("KF_PIPELINES_TOKEN"),
        cookies=os.environ.get("KF_PIPELINES_COOKIES"),
        ca_cert=os.environ.get("KF_PIPELINES_CA_CERT"),
        kube_context=os.environ.get("KF_PIPELINES_KUBE_CONTEXT"),
    )


class Client(kfp.Client):
    """kfp's client, whose constructor makes no request.

    kfp's own constructor asks whether the server is for several users, tries five times in 25 seconds, and raises the
    error of the transport.
    """

    def get_kfp_healthz(self, sleep_duration: int = 5) -> kfp_server_api.V2beta1GetHealthzResponse:
        return kfp_server_api.V2beta1GetHealthzResponse(multi_user=False)

    def _load_config(self, *args: Any, **kwargs: Any) -> kfp_server_api.Configuration:
        config = super()._load_config(*args, **kwargs)
        # `Cluster.call_with_retry` retries what is safe to retry. A redirect leads to a login page.
        config.retries = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=3)
        return config

    @property
    def transport(self) -> kfp_server_api.ApiClient:
        """The API client that sends the requests of all generated calls."""
        return self._healthz_api.api_client


def open_client(access: Access) -> Client:
    """Creates kfp's client without making a request.

    Raises:
        Failure: no address is known, or the file of the token does not exist.
    """
    _require_address(access)
    # The constructor warns and prints, which must not reach the terminal.
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        return Client(
            host=access.endpoint and access.endpoint.partition("#")[0],  # as copied from a browser
            namespace=access.namespace or "kubeflow",
            existing_token=access.token,
            cookies=access.cookies,
            ssl_ca_cert=access.ca_cert,
            kube_context=access.kube_context,
            credentials=_projected_token(access),
        )


def speaks_tls(access: Access, address: str) -> bool:
    """Whether a server that does not answer at an http:// address completes a TLS handshake there."""
    parts = urlsplit(address)
    if parts.scheme != "http" or not parts.hostname:
        return False
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    seconds = min(access.timeout, 3.0)
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=seconds) as plain:
            context.wrap_socket(plain, server_hostname=parts.hostname).close()
    except (OSError, ValueError):
        return False
    return True


def _require_address(access: Access) -> None:
    if access.endpoint and not access.endpoint.startswith(("http://", "https://")):
        scheme, separator, rest = access.endpoint.rpartition("://")
        what = f"begins with {scheme}://" if separator else "has no scheme"
        host = rest.rpartition("@")[2]
        raise Failure(
            f"The address of Kubeflow Pipelines {what}",
            where=host,
            remedy=f"give http://{host} or https://{host}",
            exit_code=ExitCode.USAGE,
        )
    kubeconfig = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    known = [
        access.endpoint,
        os.environ.get("KUBERNETES_SERVICE_HOST"),
        any(Path(part).is_file() for part in kubeconfig.split(os.pathsep) if part),
    ]
    if not any(known):
        raise Failure(
            "No address of Kubeflow Pipelines is known",
            where="--endpoint, KF_PIPELINES_ENDPOINT, the environment of the pod, the kubeconfig",
            remedy="give --endpoint, for example http://localhost:8888 behind"
            " `kubectl port-forward -n kubeflow svc/ml-pipeline 8888`",
            exit_code=ExitCode.USAGE,
        )


def _projected_token(access: Access) -> ServiceAccountTokenVolumeCredentials | None:
    """Credentials from the token that Kubernetes projects into a pod and renews, if there is one."""
    named = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV)
    path = Path(named or KF_PIPELINES_SA_TOKEN_PATH)
    if access.token or access.cookies or not access.endpoint:
        return None
    if path.is_file():
        return ServiceAccountTokenVolumeCredentials(str(path))
    if named:
        raise Failure(
            f"The token of the service account does not exist: {named}",
            where=KF_PIPELINES_SA_TOKEN_ENV,
            remedy="project one into the pod with the audience pipelines.kubeflow.org, or unset the variable",
            exit_code=ExitCode.UNAUTHORISED,
        )
    return None
