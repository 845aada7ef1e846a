"""Runs a program that the kernel kills when the process that started it ends, even if that was killed:

    python -m pipelines.serving.tied PARENT PROGRAM [ARGUMENT …]

PARENT is the id of that process. Otherwise a killed `wikigpt serve` would leave servers that hold its ports.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from components.shared.runtime.process import kill_when_parent_dies
from pipelines.config.process_environment import child_variables

# Of the registry, the store, the cluster and the Hub: a server needs none of them, and its log may be shared.
_PRIVATE = ("MLFLOW_", "AWS_", "WIKIGPT_", "KF_PIPELINES_", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def start(
    command: list[str], folder: Path, log: Path, variables: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a program in a process group of its own, without the credentials of this process.

    Args:
        command: the program and its arguments.
        folder: its working folder.
        log: the file to which its output is appended.
        variables: further variables of its environment.
    """
    tied = [sys.executable, "-m", "pipelines.serving.tied", str(os.getpid()), *command]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE)}
    environment |= child_variables() | {"PYTHONUNBUFFERED": "1"} | dict(variables or {})
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        return subprocess.Popen(
            tied,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches only the command, which drains before it stops the others
        )


def main() -> None:
    kill_when_parent_dies(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
