"""A step runs in a forked process as in a new interpreter, only sooner."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.local import fork_client
from pipelines.local.dag import call_this_python

_PROBE = """
import gc, json, os, signal, sys
assert __name__ == "__main__" and sys.modules["__main__"].__dict__ is globals()
print(json.dumps({
    "arguments": sys.argv[1:], "variable": os.environ["GIVEN"], "module": __spec__.name,
    "kfp": "kfp.dsl.executor" in sys.modules, "collects": gc.isenabled() and gc.get_threshold()[0] < 10_000,
    "ends by SIGTERM": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "input": sys.stdin.read(),
}))
print("to the other stream", file=sys.stderr)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.exit(7)
"""
# Prints the options, and ends with its standard input.
_OWNER = """
import sys
from pipelines.local.fork_server import start_fork_server
print(*start_fork_server(), sep="\\n", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    (folder / "probe.py").write_text(_PROBE)
    return folder


@pytest.fixture(scope="module")
def owner(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has a server. A wrong variable of MLflow ends its imports early, and nothing else."""
    path = os.pathsep.join([str(Path(__file__).parents[3]), str(folder)])
    variables = {**os.environ, "PYTHONPATH": path, "MLFLOW_LOGGING_LEVEL": "wrong"}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _OWNER], stdin=pipe, stdout=pipe, text=True, env=variables) as process:
        yield process
        process.kill()


@pytest.fixture(scope="module")
def options(owner: subprocess.Popen[str]) -> list[str]:
    assert owner.stdout is not None
    return [owner.stdout.readline().rstrip("\n") for _ in range(3)]


def probe(options: list[str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-m", "probe", *arguments]
    variables = {**os.environ, "GIVEN": "ä\udcff", "PYTHONPATH": str(folder)}
    return subprocess.run(command, input="read", capture_output=True, text=True, cwd=folder, env=variables, timeout=60)


@pytest.mark.parametrize("forked", [True, False])
def test_a_module_runs_as_in_a_new_interpreter(forked: bool, options: list[str], folder: Path) -> None:
    done = probe(options if forked else [*options[:2], "/nowhere"], folder, "a b", "ä")
    assert (done.returncode, done.stderr) == (7, "to the other stream\n")
    assert json.loads(done.stdout) == {
        "arguments": ["a b", "ä"],
        "variable": "ä\udcff",
        "module": "probe",
        "kfp": forked,
        "collects": True,
        "ends by SIGTERM": True,
        "input": "read",
    }


def test_a_signal_that_ends_the_process_is_an_exit_code(options: list[str], folder: Path) -> None:
    assert probe(options, folder, "killed").returncode == 128 + signal.SIGKILL


def test_kfp_starts_the_executor_by_the_client() -> None:
    command = ["sh", "-ec", 'python3 -m kfp.dsl.executor_main "$0"', "code", "--executor_input"]
    changed = call_this_python(command, "/my folder/python", ["-IS", "/client.py", "/socket"])
    assert changed[2] == "'/my folder/python' -IS /client.py /socket -m kfp.dsl.executor_main \"$0\""


def test_the_client_imports_only_what_starts_in_milliseconds() -> None:
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print('site' in sys.modules, len(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-ISc", code, fork_client.__file__], capture_output=True, text=True, check=True
    )
    site, modules = done.stdout.split()
    assert site == "False" and int(modules) < 100


def test_the_server_ends_with_its_process_and_not_by_sigterm(owner: subprocess.Popen[str], options: list[str]) -> None:
    """It is the last test, because it ends the server."""
    children = Path(f"/proc/{owner.pid}/task/{owner.pid}/children")
    if not children.exists():
        pytest.skip("this system does not list the children of a process")
    (server,) = map(int, children.read_text().split())
    os.kill(server, signal.SIGTERM)
    time.sleep(0.2)
    assert Path(options[2]).exists()
    owner.kill()
    until = time.monotonic() + 30
    while Path(options[2]).parent.exists():
        assert time.monotonic() < until
        time.sleep(0.05)
