"""Runs the DAG on this machine by kfp.local: `python -m pipelines.local RUN`, started by `pipelines.supervisor`.

The process leads a group of its own, with every step in it. It outlives the command that started it by no more than a
grace: a pipe from the command, on standard input, tells it of that command's end, however it came.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

GRACE = 60.0


def main(folder: Path) -> None:
    """Runs the DAG with the settings of a run folder; ends with exit code 1 where a step failed."""
    signal.signal(
        signal.SIGTERM, lambda *_: None
    )  # the steps end by it; this process waits for them and for the notice
    threading.Thread(target=_follow_into_death, name="parent-watch", daemon=True).start()
    from kfp import local

    from pipelines.runners import container_environment
    from pipelines.training import anywhere, build

    plan = json.loads((folder / "plan.json").read_text())
    if plan["runner"] == "docker":
        runner = local.DockerRunner(environment=container_environment(), **plan["docker"])
    else:
        runner = local.SubprocessRunner(use_venv=False)
    local.init(runner=runner, pipeline_root=str(folder / "steps"))
    image = plan.get("image")
    pipeline = build(place=(lambda task, _: task.set_container_image(image)) if image else anywhere)
    try:
        pipeline(settings=(folder / "settings.json").read_text())
    except RuntimeError as error:
        sys.exit(str(error))


def request_stop() -> None:
    """Tells the steps of this process group to stop, also one that is about to start."""
    Path(os.environ["WIKIGPT_STOP"]).touch()
    os.killpg(0, signal.SIGTERM)


def _follow_into_death() -> None:
    while os.read(0, 1):
        pass
    request_stop()
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


def give_notice(folder: Path, state: str) -> None:
    """Runs the notice alone, for a run whose own exit handler did not come to it."""
    from components.notify.run import run
    from components.shared.step import step

    with step("notify", (folder / "settings.json").read_text(), folder.name) as here:
        run(here, {"state": state, "error_code": 0, "error_message": ""})


if __name__ == "__main__":
    if len(sys.argv) > 2:
        give_notice(Path(sys.argv[1]), sys.argv[2])
    else:
        main(Path(sys.argv[1]))
