"""Runs the DAG on this machine by kfp.local: `python -m pipelines.local.dag RUN`.

`pipelines.local.supervisor` starts it. The process leads a group of its own, with every step in it. It outlives the
command that started it by no more than a grace: a pipe from the command, on standard input, tells it of that command's
end, however it came.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

from pipelines.local.runners import container_environment, stop_containers

GRACE = 60.0  # seconds


def main(folder: Path) -> None:
    """Runs the DAG with the settings of a run folder; ends with exit code 1 where a step failed."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    in_containers = plan["runner"] == "docker"
    os.environ["WIKIGPT_OWNER_PID"] = str(os.getpid())
    forward_sigterm_to_containers(folder.name if in_containers else None)
    threading.Thread(target=kill_group_when_parent_dies, name="parent-watch", daemon=True).start()
    from kfp import local
    from kfp.local import subprocess_task_handler

    from pipelines.training import build, build_reproduction, no_placement

    if in_containers:
        placement = lambda task, _: task.set_container_image(plan["image"])  # noqa: E731
        runner = local.DockerRunner(
            environment=container_environment(), labels={"wikigpt.run": folder.name}, **plan["docker"]
        )
    else:
        placement, runner = no_placement, local.SubprocessRunner(use_venv=False)
    root = folder / "steps"
    root.mkdir()  # or a container engine makes it, as root's
    local.init(runner=runner, pipeline_root=str(root))
    subprocess_task_handler.replace_python_executable = call_this_python
    try:
        pipeline = build_reproduction() if plan.get("reproduction") else build(placement=placement)
        pipeline(settings=(folder / "settings.json").read_text(encoding="utf-8"))
    except RuntimeError as error:
        sys.exit(str(error))


def call_this_python(command: list[str], executable: str) -> list[str]:
    """Takes the place of KFP's function, which writes the interpreter, unquoted, wherever it reads `python3`: in paths
    and settings too (kfp 2.17.0).

    Args:
        command: of a step: shell code that ends in a call of the executor, then the arguments of that code.
        executable: the path of the interpreter.
    """
    call = next(i for i, part in enumerate(command) if "kfp.dsl.executor_main" in part)
    code = [part.replace("python3", shlex.quote(executable)) for part in command[: call + 1]]
    return code + command[call + 1 :]


def forward_sigterm_to_containers(run_in_containers: str | None) -> None:
    """This process waits for the steps and for the notice; containers, outside its group, are told by it."""

    def hand_on(*_: object) -> None:
        if run_in_containers:
            threading.Thread(target=stop_containers, args=(run_in_containers,)).start()

    signal.signal(signal.SIGTERM, hand_on)


def kill_group_when_parent_dies() -> None:
    while os.read(0, 1):
        pass
    Path(os.environ["WIKIGPT_STOP"]).touch()
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


def run_notify(folder: Path, state: str) -> None:
    """Runs the notice alone, for a run whose own exit handler did not come to it."""
    from components.notify.run import run
    from components.shared.runtime.step import step

    with step("notify", (folder / "settings.json").read_text(encoding="utf-8"), folder.name, recorded=False) as here:
        run(here, {"state": state, "error_code": 0, "error_message": ""})


if __name__ == "__main__":
    if len(sys.argv) > 2:
        run_notify(Path(sys.argv[1]), sys.argv[2])
    else:
        main(Path(sys.argv[1]))
