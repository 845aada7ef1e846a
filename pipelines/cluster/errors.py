"""Converts errors of the connection to Kubeflow Pipelines into failures."""

from __future__ import annotations

import json
import re
from typing import Any

from kfp_server_api import ApiException
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    LocationValueError,
    MaxRetryError,
    NameResolutionError,
    ReadTimeoutError,
    SSLError,
)

from components.shared.base.failure import ExitCode, Failure, first_line

CAUGHT = (ApiException, HTTPError)
_PATH = "give the address below which /apis/v2beta1 is, as https://host/pipeline is on a full Kubeflow"
_AUTHORITY = "name the file of its authority by KF_PIPELINES_CA_CERT"
# Messages of several versions of OpenSSL for an answer that is not TLS.
_NO_TLS = re.compile(r"wrong.version.number|record.layer.failure|unknown.protocol|http.request", re.IGNORECASE)


class Exists(Failure):
    """The server already has an object of that name."""


class Missing(Failure):
    """The server has no object of that name."""


def failure_of(error: Exception, address: str, subject: str) -> Failure:
    """Converts an error of the client.

    Args:
        error: an error of one of the types in `CAUGHT`.
        address: the address of the server.
        subject: the object of the call, such as `run 8f3c`.
    """
    if isinstance(error, ApiException):
        return _from_response(error, address, subject)
    reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
    if isinstance(error, (LocationParseError, LocationValueError)) or "InvalidURL" in str(reason):
        return Failure(
            f"The address cannot be read: {_phrase(str(error))}",
            where=address,
            remedy="write it as https://host or http://host:port",
            exit_code=ExitCode.USAGE,
        )
    if isinstance(reason, SSLError):
        what, remedy = _tls_failure(_phrase(str(reason)))
    elif isinstance(reason, NameResolutionError):
        what, remedy = "The host name of Kubeflow Pipelines is unknown", "fix --endpoint or KF_PIPELINES_ENDPOINT"
    elif "refused" in str(reason):
        what, remedy = "Nothing listens at the address", "start the port-forward to ml-pipeline or fix --endpoint"
    elif isinstance(reason, (ReadTimeoutError, ConnectTimeoutError)):
        what, remedy = "Kubeflow Pipelines did not answer in time", "check the deployment ml-pipeline, then try again"
    else:
        what, remedy = f"The connection to Kubeflow Pipelines broke: {_phrase(str(reason))}", "try again"
    return Failure(what, where=address, remedy=remedy, exit_code=ExitCode.UNREACHABLE)


def web_page(address: str, *, redirected: bool) -> Failure:
    """The address answers with a web page."""
    if redirected:
        return Failure(
            "The server redirects to a login page",
            where=address,
            remedy="give a fresh token (KF_PIPELINES_TOKEN) or the cookies of a session (KF_PIPELINES_COOKIES)",
            exit_code=ExitCode.UNAUTHORISED,
        )
    return Failure(
        "The address answers with a web page, not with the API of Kubeflow Pipelines",
        where=address,
        remedy=_PATH,
        exit_code=ExitCode.UNREACHABLE,
    )


def wrong_path(address: str) -> Failure:
    """A server answers there, but without the API."""
    return Failure(
        "The address answers, but there is no API of Kubeflow Pipelines below it",
        where=address,
        remedy=_PATH,
        exit_code=ExitCode.UNREACHABLE,
    )


def tls_expected(address: str) -> Failure:
    """The address begins with http://, and the server speaks TLS."""
    return Failure(
        "The server speaks TLS, and the address begins with http://",
        where=address,
        remedy=f"give https://{address.removeprefix('http://')}",
        exit_code=ExitCode.UNREACHABLE,
    )


def _tls_failure(message: str) -> tuple[str, str]:
    """The problem with a TLS connection, and its remedy."""
    if _NO_TLS.search(message):
        return "The server speaks plain HTTP, and the address begins with https://", "give it with http://"
    if "hostname mismatch" in message.lower() or "doesn't match" in message:
        return f"The certificate of the server is for another name: {message}", "use the name in the certificate"
    if "certificate" in message.lower():
        return f"The certificate of the server is not trusted: {message}", _AUTHORITY
    return f"The TLS connection to the server failed: {message}", "check the server, then try again"


def _from_response(error: ApiException, address: str, subject: str) -> Failure:
    message = _message(error)
    if error.status == 401:
        return Failure(
            f"The server does not accept the credentials: {message}",
            where=address,
            remedy="fetch a fresh token or session; a token of a service account lasts an hour by default",
            exit_code=ExitCode.UNAUTHORISED,
        )
    if error.status == 403:
        return Failure(
            f"The server does not permit this: {message}",
            where=f"{subject} at {address}",
            remedy="name the right --namespace, or ask its owner for the permission",
            exit_code=ExitCode.UNAUTHORISED,
        )
    if is_page(error.body or ""):
        return web_page(address, redirected=False)
    if error.status == 404:
        return Missing(
            f"There is no {subject}",
            where=address,
            remedy="look the name up in the user interface; it may have been deleted",
            exit_code=ExitCode.USAGE,
        )
    if error.status == 409:
        return Exists(f"A {subject} exists already", where=address, remedy="use it, or choose another name")
    if error.status and error.status >= 500:
        return Failure(
            f"Kubeflow Pipelines answered {error.status}: {message}",
            where=f"{subject} at {address}",
            remedy="try again; if the error persists, see the log of ml-pipeline",
            exit_code=ExitCode.UNREACHABLE,
        )
    return Failure(
        f"Kubeflow Pipelines refused: {message}",
        where=f"{subject} at {address}",
        remedy="correct what the message names",
    )


def _message(error: ApiException) -> str:
    """The first line of the server's message, without its Go stack trace."""
    try:
        message: Any = json.loads(error.body or "").get("message")
    except (ValueError, AttributeError):
        message = None
    return _phrase(str(message or error.reason or f"status {error.status}"))


def is_page(body: str) -> bool:
    """Whether the body of an answer is a web page."""
    return bool(re.match(r"\s*<(!doctype|html)", body, re.IGNORECASE))


def _phrase(text: str) -> str:
    """The first line without its full stop, because the sentence continues after it."""
    return first_line(text).rstrip(".")
