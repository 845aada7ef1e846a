"""Requests to the API server of Kubeflow Pipelines. Errors become failures, and safe requests are retried."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.redact import redact
from pipelines.cluster.access import Access, open_client, speaks_tls
from pipelines.cluster.errors import (
    CAUGHT,
    Exists,
    Missing,
    failure_of,
    is_page,
    tls_expected,
    web_page,
    wrong_path,
)

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_ATTEMPTS = 4
_FIRST_PAUSE = 0.5  # seconds; each pause is twice the one before it
_PAGE = 100

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Cluster:
    """A connection to a server.

    Attributes:
        client: kfp's client. Its generated calls are passed to `call_with_retry` and `call_once`.
        address: the address of the server without credentials, for messages.
        namespace: the namespace of the runs, or None on a single-user server.
        access: the address and credentials of the connection.
        version: the release and commit of the server, as it reports them; empty if it reports neither.
    """

    client: Any
    address: str
    namespace: str | None
    access: Access
    version: str = ""

    def call_with_retry(self, subject: str, call: Callable[..., Answer], **arguments: Any) -> Answer:
        """Makes a call, and retries it if the server cannot be reached or has an error.

        Args:
            subject: the object of the call, such as `run 8f3c`, for messages.
            call: a generated call of the client.
            arguments: the arguments of the call.

        Raises:
            Failure: there is no answer, or the server refuses.
        """
        attempts = Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, Failure) and e.exit_code is ExitCode.UNREACHABLE),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential(multiplier=_FIRST_PAUSE),
            reraise=True,
        )
        return attempts(self.call_once, subject, call, **arguments)

    def call_once(self, subject: str, call: Callable[..., Answer], **arguments: Any) -> Answer:
        """Makes a call without a retry.

        Raises:
            Failure: there is no answer, or the server refuses; `Exists` if the name is taken. Without an answer, the
                server may have made the change nevertheless.
        """
        answer = self._call(subject, call, **arguments)
        self._require_json()
        return answer

    def text(self, subject: str, path: str, **values: str) -> str:
        """Reads plain text at a path of the server, with `values` in the path.

        Raises:
            Failure: there is no answer, the server refuses, or it sends a web page.
        """
        response = self._call(
            subject,
            self.client.transport.call_api,
            resource_path=path,
            method="GET",
            path_params=values,
            auth_settings=["Bearer"],
            _preload_content=False,
            _return_http_data_only=True,
        )
        text = response.data.decode(errors="replace")
        if is_page(text):
            raise web_page(self.address, redirected=_was_redirected(response))
        return text

    def create_once(
        self, subject: str, call: Callable[..., Answer], find: Callable[[], Answer | None], **arguments: Any
    ) -> Answer:
        """Creates an object exactly once: if the answer is lost or the name is taken, `find` looks for the object.

        Raises:
            Failure: it was not created.
        """
        try:
            return self.call_once(subject, call, **arguments)
        except Failure as failure:
            if not isinstance(failure, Exists) and failure.exit_code is not ExitCode.UNREACHABLE:
                raise
            if (found := find()) is None:
                raise
            return found

    def paginate(self, subject: str, call: Callable[..., Any], entries: str, **arguments: Any) -> Iterator[Any]:
        """All entries of a list that the server sends in pages."""
        token = ""
        while True:
            answer = self.call_with_retry(subject, call, page_token=token, page_size=_PAGE, **arguments)
            yield from getattr(answer, entries) or ()
            if not (token := answer.next_page_token):
                return

    def _call(self, subject: str, call: Callable[..., Answer], **arguments: Any) -> Answer:
        try:
            return call(**arguments, _request_timeout=(self.access.timeout, self.access.timeout))
        except CAUGHT as error:
            raise failure_of(error, self.address, subject) from error

    def _require_json(self) -> None:
        response = self.client.transport.last_response
        try:
            json.loads(response.data)
        except ValueError:
            raise web_page(self.address, redirected=_was_redirected(response.urllib3_response)) from None


def _health(cluster: Cluster) -> dict[str, Any]:
    """The health document of the server, which has more fields than the API describes.

    Raises:
        Failure: it cannot be reached, or it is not Kubeflow Pipelines.
    """
    try:
        cluster.call_with_retry("health of Kubeflow Pipelines", cluster.client.healthzs.healthz_service_get_healthz)
    except Missing:
        raise wrong_path(cluster.address) from None
    except Failure as failure:
        unexplained = failure.exit_code in (ExitCode.UNREACHABLE, ExitCode.FAILED)
        if unexplained and speaks_tls(cluster.access, cluster.client.transport.configuration.host):
            raise tls_expected(cluster.address) from failure
        raise
    health = json.loads(cluster.client.transport.last_response.data)
    if not isinstance(health, dict) or "multi_user" not in health:
        raise wrong_path(cluster.address)
    return health


def _known_values(health: dict[str, Any], *names: str) -> list[str]:
    """The values of these fields that the server reports."""
    return [health[name] for name in names if health.get(name) not in (None, "", "unknown")]


def _was_redirected(response: Any) -> bool:
    return bool(response.retries and response.retries.history)


def connect(access: Access) -> Cluster:
    """Connects to the server and finds the namespace of the runs.

    Raises:
        Failure: no address is known, nothing answers there, it is not Kubeflow Pipelines, it does not accept the
            credentials, or it is a multi-user server and no namespace is given.
    """
    client = open_client(access)
    address = redact(client.transport.configuration.host.rstrip("/"))
    cluster = Cluster(client, address, access.namespace or client.get_user_namespace() or None, access)
    health = _health(cluster)
    cluster = replace(cluster, version=" ".join(_known_values(health, "tag_name", "commit_sha")))
    if not health["multi_user"] or cluster.namespace:
        return cluster
    if NAMESPACE_FILE.is_file():
        return replace(cluster, namespace=NAMESPACE_FILE.read_text(encoding="utf-8").strip())
    raise Failure(
        "The server is for several users, and no namespace is given",
        where=address,
        remedy="name yours by --namespace",
        exit_code=ExitCode.USAGE,
    )
