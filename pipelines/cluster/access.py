"""Who asks Kubeflow Pipelines, and where: kfp's own client, made to ask nothing before it is asked."""

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
    """How Kubeflow Pipelines is reached, and as whom.

    Attributes:
        endpoint: address of the server; None asks the cluster that this process runs in, else the kubeconfig's.
        namespace: of the runs; a server for several users needs it.
        token: a bearer token.
        cookies: of a session, as in `authservice_session=…`.
        ca_cert: file with the authority that signed the server's certificate.
        kube_context: of the kubeconfig.
        timeout: seconds that one request may take.
    """

    endpoint: str | None = None
    namespace: str | None = None
    token: str | None = field(default=None, repr=False)
    cookies: str | None = field(default=None, repr=False)
    ca_cert: str | None = None
    kube_context: str | None = None
    timeout: float = 30.0


def resolve_access(endpoint: str | None, namespace: str | None) -> Access:
    """How the options and the environment say that a server is reached, and as whom.

    KF_PIPELINES_TOKEN and KF_PIPELINES_COOKIES say who we are; they are no options, since every process of this
    machine could read them there.
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
    """kfp's client, which asks nothing of the server before it is asked.

    The constructor of kfp's own wants to know whether the server is for several users, tries five times in 25 seconds,
    and lets the error of the transport through.
    """

    def get_kfp_healthz(self, sleep_duration: int = 5) -> kfp_server_api.V2beta1GetHealthzResponse:
        return kfp_server_api.V2beta1GetHealthzResponse(multi_user=False)

    def _load_config(self, *args: Any, **kwargs: Any) -> kfp_server_api.Configuration:
        config = super()._load_config(*args, **kwargs)
        # `Cluster.call_with_retry` repeats what may be repeated; a redirect leads to a page for logging in.
        config.retries = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=3)
        return config

    @property
    def transport(self) -> kfp_server_api.ApiClient:
        """What sends the requests of every generated call."""
        return self._healthz_api.api_client


def open_client(access: Access) -> Client:
    """kfp's client with an address and an identity; nothing was asked yet.

    Raises:
        Failure: no address is known, or a token that is named is not there.
    """
    _require_address(access)
    # The constructor warns and prints, which belongs on no terminal of ours.
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
    """Whether a server that does not answer at an http:// address answers a TLS greeting there."""
    parts = urlsplit(address)
    if parts.scheme != "http" or not parts.hostname:
        return False
    greeting = ssl.create_default_context()
    greeting.check_hostname, greeting.verify_mode = False, ssl.CERT_NONE
    seconds = min(access.timeout, 3.0)
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=seconds) as plain:
            greeting.wrap_socket(plain, server_hostname=parts.hostname).close()
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
            where="--endpoint, KF_PIPELINES_ENDPOINT, the cluster around this process, the kubeconfig",
            remedy="give --endpoint, for example http://localhost:8888 behind"
            " `kubectl port-forward -n kubeflow svc/ml-pipeline 8888`",
            exit_code=ExitCode.USAGE,
        )


def _projected_token(access: Access) -> ServiceAccountTokenVolumeCredentials | None:
    """Credentials from the token that Kubernetes projects into a pod and renews, where there is one."""
    named = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV)
    path = Path(named or KF_PIPELINES_SA_TOKEN_PATH)
    if access.token or access.cookies or not access.endpoint:
        return None
    if path.is_file():
        return ServiceAccountTokenVolumeCredentials(str(path))
    if named:
        raise Failure(
            f"The token of the service account is not there: {named}",
            where=KF_PIPELINES_SA_TOKEN_ENV,
            remedy="project one into the pod with the audience pipelines.kubeflow.org, or unset the variable",
            exit_code=ExitCode.UNAUTHORISED,
        )
    return None
