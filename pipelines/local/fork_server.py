"""Starts the steps of a run by fork, from a process that has imported KFP and MLflow.

Every step would spend two seconds on these imports. The server makes them once, while the process of the DAG prepares
itself. KFP calls `fork_client.py` in place of the interpreter. That passes its arguments, environment and output to the
server, and waits. If there is no server, the client starts the interpreter, so a step never depends on the server.
"""

from __future__ import annotations

import gc
import os
import pickle
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

_CLIENT = Path(__file__).with_name("fork_client.py")
_STDIN = 0


def start_fork_server() -> list[str]:
    """Starts a server that ends with this process.

    Returns:
        The arguments that an interpreter needs before `-m MODULE ARGUMENTS` to run the module in a forked process.
    """
    address = Path(tempfile.mkdtemp(prefix="wikigpt-")) / "socket"
    end, _ = os.pipe()  # its other end is closed when this process ends
    with socket.socket(socket.AF_UNIX) as listener:  # if the server dies, a client is refused and does not wait
        with suppress(OSError):  # the path may be too long for a socket
            listener.bind(str(address))
            listener.listen()
        command = [sys.executable, "-m", __name__, str(address), str(listener.fileno())]
        subprocess.Popen(command, stdin=end, pass_fds=[listener.fileno()])
    os.close(end)
    return ["-IS", str(_CLIENT), str(address)]


def serve(listener: socket.socket) -> None:
    """Forks a process for each client, until standard input ends."""
    # The signal that stops a run goes to its process group. The steps end by it, and the server waits for its end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, _reap)
    _import_what_steps_need()
    gc.freeze()  # otherwise a collection in a step would copy the memory that it shares with the server
    gc.enable()
    while _STDIN not in select.select([listener.fileno(), _STDIN], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _run(connection)
        connection.close()


def _reap(*_: object) -> None:
    """Waits for processes that ended. Ignoring the signal would do too, but lose their processor time."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _run(connection: socket.socket) -> None:
    """Runs a module in a child process, and sends its exit code to the client."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, *_ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as request:
        arguments, environment = pickle.load(request)
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with suppress(OSError):
            connection.sendall(str(code).encode())
        os._exit(0)
    connection.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    os.environb.clear()
    os.environb.update(environment)
    _, module, *sys.argv[1:] = map(os.fsdecode, arguments)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


def _import_what_steps_need() -> None:
    os.environ["_KFP_RUNTIME"] = "true"  # KFP reads it when it is imported, to leave out its compiler
    with suppress(Exception):  # the step will meet the same error and report it
        from kfp.dsl import executor, kfp_config  # noqa: F401

        from components.shared.runtime import step  # noqa: F401
        from components.shared.tracking.local_address import sqlite_path
        from components.shared.tracking.mlflow_variables import check_mlflow_variables

        check_mlflow_variables()
        import mlflow

        if sqlite_path(mlflow.get_tracking_uri()):
            from mlflow.store.model_registry import sqlalchemy_store as models  # noqa: F401
            from mlflow.store.tracking import sqlalchemy_store as runs  # noqa: F401


if __name__ == "__main__":
    gc.disable()  # for the imports
    serve(socket.socket(fileno=int(sys.argv[2])))
    shutil.rmtree(Path(sys.argv[1]).parent, ignore_errors=True)
    os._exit(0)  # the end of the interpreter would take longer
