"""Ports that the servers of the commands listen on."""

from __future__ import annotations

import os
import socket

from components.shared.base.failure import ExitCode, Failure


def require_free(port: int, program: str, host: str = "127.0.0.1", *, option: str = "--port") -> None:
    """Requires that a program can listen on a port, so that the failure is one sentence before the program starts.

    Raises:
        Failure: something else listens there, or this user may not.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Failure(
                f"{program} cannot listen on port {port}: {os.strerror(error.errno or 0)}",
                where=host,
                remedy=f"choose another one by {option}",
                exit_code=ExitCode.USAGE,
            ) from None


def http_address(host: str, port: int) -> str:
    """The address of a server at an IP address, where one of IPv6 is in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]
