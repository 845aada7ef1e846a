"""Runs the DAG on this machine by kfp.local: `python -m pipelines.local.dag RUN`.

`pipelines.local.supervisor` starts it. The process leads a process group, which all steps belong to. Its standard input
is a pipe from the command that started it. When that command ends, in whatever way, the pipe closes, and the group is
killed after a grace period.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from components.shared.base.garbage import collect_rarely
from pipelines.local.fork_server import start_fork_server
from pipelines.local.runners import container_environment, stop_containers

GRACE = 60.0  # seconds


def main(folder: Path) -> None:
    """Runs the DAG with the parameters of a run folder. The exit code is 1 if a step failed."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    in_containers = plan["runner"] == "docker"
    os.environ["WIKIGPT_OWNER_PID"] = str(os.getpid())
    forward_sigterm_to_containers(folder.name if in_containers else None)
    threading.Thread(target=kill_group_when_parent_dies, name="parent-watch", daemon=True).start()
    options = [] if in_containers else start_fork_server()
    from kfp import local
    from kfp.local import subprocess_task_handler

    from pipelines.config.parameters import RunParameters, TrainPod
    from pipelines.training import build, build_until_train, no_placement

    if in_containers:
        placement = lambda task, _: task.set_container_image(plan["image"])  # noqa: E731
        runner = local.DockerRunner(
            environment=container_environment(), labels={"wikigpt.run": folder.name}, **plan["docker"]
        )
    else:
        placement, runner = no_placement, local.SubprocessRunner(use_venv=False)
    root = folder / "steps"
    root.mkdir()  # otherwise a container engine creates it, owned by root
    local.init(runner=runner, pipeline_root=str(root))
    subprocess_task_handler.replace_python_executable = partial(call_this_python, options=options)
    try:
        parameters, pod = RunParameters(**_parameters(folder)), TrainPod(**plan["train_pod"])
        pipeline = (
            build_until_train(pod) if plan.get("until") == "train" else build(parameters, pod, placement=placement)
        )
        pipeline(**parameters.to_dict())
    except RuntimeError as error:
        sys.exit(str(error))


def call_this_python(command: list[str], executable: str, options: Sequence[str] = ()) -> list[str]:
    """Replaces KFP's function, which writes the interpreter, unquoted, in place of every `python3`, also in paths and
    settings (kfp 2.17.3).

    Args:
        command: the command of a step: shell code that ends with a call of the executor, then arguments of that code.
        executable: the path of the interpreter.
        options: arguments that the interpreter gets before its others.
    """
    call = next(i for i, part in enumerate(command) if "kfp.dsl.executor_main" in part)
    python = shlex.join([executable, *options])
    code = [part.replace("python3", python) for part in command[: call + 1]]
    return code + command[call + 1 :]


def forward_sigterm_to_containers(run_in_containers: str | None) -> None:
    """Keeps this process alive until the steps have ended, and stops containers, which are not in its process group."""

    def stop_steps(*_: object) -> None:
        if run_in_containers:
            threading.Thread(target=stop_containers, args=(run_in_containers,)).start()

    signal.signal(signal.SIGTERM, stop_steps)


def kill_group_when_parent_dies() -> None:
    """Stops the process group when the command that started it ends, and kills it after the grace period."""
    while os.read(0, 1):
        pass
    Path(os.environ["WIKIGPT_STOP"]).touch()
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


def run_notify(folder: Path, state: str) -> None:
    """Runs the notify step alone, for a run whose exit handler did not run."""
    from components.notify.run import run
    from components.shared.runtime.step import step
    from pipelines.config.parameters import notify_composer

    parameters = _parameters(folder)
    compose = notify_composer(parameters["profile"], parameters["overrides"])
    with step("notify", compose, folder.name, recorded=False) as here:
        run(here, {"state": state, "error_code": 0, "error_message": ""})


def _parameters(folder: Path) -> dict[str, Any]:
    parameters: dict[str, Any] = json.loads((folder / "parameters.json").read_text(encoding="utf-8"))
    return parameters


if __name__ == "__main__":
    collect_rarely()
    if len(sys.argv) > 2:
        run_notify(Path(sys.argv[1]), sys.argv[2])
    else:
        main(Path(sys.argv[1]))
