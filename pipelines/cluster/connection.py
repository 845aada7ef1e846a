"""The way to the API server of Kubeflow Pipelines: address, identity, and requests whose errors are sentences."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import kfp
import kfp_server_api
import urllib3
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, KF_PIPELINES_SA_TOKEN_PATH
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from components.shared.failure import ExitCode, Failure
from pipelines.cluster.errors import CAUGHT, Exists, failure_of, web_page

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_ATTEMPTS = 4
_FIRST_PAUSE = 0.5  # seconds; each pause is twice the one before it
_PAGE = 100

Answer = TypeVar("Answer")


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


class _Client(kfp.Client):
    """kfp's client, which asks nothing of the server before it is asked.

    The constructor of kfp's own wants to know whether the server is for several users, tries five times in 25 seconds,
    and lets the error of the transport through.
    """

    def get_kfp_healthz(self, sleep_duration: int = 5) -> kfp_server_api.V2beta1GetHealthzResponse:
        return kfp_server_api.V2beta1GetHealthzResponse(multi_user=False)

    def _load_config(self, *args: Any, **kwargs: Any) -> kfp_server_api.Configuration:
        config = super()._load_config(*args, **kwargs)
        # `Cluster.read` repeats what may be repeated; a redirect leads to a page for logging in.
        config.retries = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=3)
        return config

    @property
    def transport(self) -> kfp_server_api.ApiClient:
        """What sends the requests of every generated call."""
        return self._healthz_api.api_client


@dataclass(frozen=True)
class Cluster:
    """A server that was reached.

    Attributes:
        client: kfp's; its generated calls are handed to `read` and `change`.
        address: of the server, for sentences.
        namespace: of the runs, or None on a server for one user.
        access: how it was reached.
    """

    client: Any
    address: str
    namespace: str | None
    access: Access

    def read(self, subject: str, call: Callable[..., Answer], **arguments: Any) -> Answer:
        """Asks for something, again where the server or the way to it stumbles.

        Args:
            subject: what is asked for, as in `run 8f3c`, for the sentence of a failure.
            call: a generated call of the client.
            arguments: of the call.

        Raises:
            Failure: no answer, or one that refuses.
        """
        attempts = Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, Failure) and e.exit_code is ExitCode.UNREACHABLE),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential(multiplier=_FIRST_PAUSE),
            reraise=True,
        )
        return attempts(self.change, subject, call, **arguments)

    def change(self, subject: str, call: Callable[..., Answer], **arguments: Any) -> Answer:
        """Asks for something once.

        Raises:
            Failure: no answer, or one that refuses; `Exists` where the name is taken. Without an answer the change may
                have happened all the same.
        """
        answer = self._asked(subject, call, **arguments)
        self._require_json()
        return answer

    def text(self, subject: str, path: str, **values: str) -> str:
        """Reads plain text that the server has at a path, with `values` in the path.

        Raises:
            Failure: no answer, or one that refuses.
        """
        response = self._asked(
            subject,
            self.client.transport.call_api,
            resource_path=path,
            method="GET",
            path_params=values,
            auth_settings=["Bearer"],
            _preload_content=False,
            _return_http_data_only=True,
        )
        return response.data.decode(errors="replace")

    def make(
        self, subject: str, call: Callable[..., Answer], find: Callable[[], Answer | None], **arguments: Any
    ) -> Answer:
        """Makes something exactly once: where the answer is lost, or the name is taken, looks what is there.

        Raises:
            Failure: it was not made.
        """
        try:
            return self.change(subject, call, **arguments)
        except Failure as failure:
            if not isinstance(failure, Exists) and failure.exit_code is not ExitCode.UNREACHABLE:
                raise
            if (found := find()) is None:
                raise
            return found

    def every(self, subject: str, call: Callable[..., Any], entries: str, **arguments: Any) -> Iterator[Any]:
        """Every entry of a list that the server gives by pages."""
        token = ""
        while True:
            answer = self.read(subject, call, page_token=token, page_size=_PAGE, **arguments)
            yield from getattr(answer, entries) or ()
            if not (token := answer.next_page_token):
                return

    def _asked(self, subject: str, call: Callable[..., Answer], **arguments: Any) -> Answer:
        try:
            return call(**arguments, _request_timeout=(self.access.timeout, self.access.timeout))
        except CAUGHT as error:
            raise failure_of(error, self.address, subject) from error

    def _require_json(self) -> None:
        response = self.client.transport.last_response
        try:
            json.loads(response.data)
        except ValueError:
            hops = response.urllib3_response.retries.history if response.urllib3_response.retries else ()
            raise web_page(self.address, redirected=bool(hops)) from None


def connect(access: Access) -> Cluster:
    """Reaches the server and finds out whom it is for.

    Raises:
        Failure: no address is known, nothing answers there, it is no Kubeflow Pipelines, it does not know us, or it is
            for several users and no namespace is given.
    """
    _require_surroundings(access)
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        client = _Client(
            host=access.endpoint,
            namespace=access.namespace or "kubeflow",
            existing_token=access.token,
            cookies=access.cookies,
            ssl_ca_cert=access.ca_cert,
            kube_context=access.kube_context,
            credentials=_projected_token(access),
        )
    address = client.transport.configuration.host.rstrip("/")
    cluster = Cluster(client, address, access.namespace or client.get_user_namespace() or None, access)
    health = cluster.read("health of Kubeflow Pipelines", client.healthzs.healthz_service_get_healthz)
    if not health.multi_user or cluster.namespace:
        return cluster
    if NAMESPACE_FILE.is_file():
        return Cluster(client, address, NAMESPACE_FILE.read_text().strip(), access)
    raise Failure(
        "The server is for several users, and no namespace is given",
        where=address,
        remedy="name yours by --namespace",
        exit_code=ExitCode.USAGE,
    )


def _require_surroundings(access: Access) -> None:
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
