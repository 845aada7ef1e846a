"""Several processes that train together: started, watched and ended by the step, each of them in here.

They are the children of torch's elastic launcher, which ends all when one dies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.shared.failure import ExitCode, Failure, Interrupted
from components.shared.manifest import write_atomically
from components.train.job import Job, work
from components.train.parallel import Group

_LOOK_EVERY = 0.2


def work_together(job: Job, processes: int, told_to_stop: Callable[[], bool]) -> dict[str, Any]:
    """Trains in several processes of this machine.

    Returns:
        The facts of the model.

    Raises:
        Interrupted: told to stop, after the state was kept.
        Failure: what a process raised; or that one died, after which a later run goes on from the last checkpoint.
    """
    with tempfile.TemporaryDirectory(prefix="wikigpt-training-") as scratch:
        desk = Path(scratch)
        write_atomically(desk / "job.json", json.dumps({"job": asdict(job), "step_pid": os.getpid()}))
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        # A session of their own: a signal to the step's group is for the step, which ends them at a step boundary.
        process = subprocess.Popen(
            [*launcher, "-m", "components.train.worker", scratch],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                if told_to_stop():
                    (desk / "stop").touch()
                time.sleep(_LOOK_EVERY)
        finally:
            process.terminate()
            process.wait()
        return _outcome(desk, process.returncode)


def main(scratch: str) -> None:
    """The body of one process, under the launcher's variables RANK, LOCAL_RANK and WORLD_SIZE."""
    import torch.distributed as dist

    desk = Path(scratch)
    spec = json.loads((desk / "job.json").read_text())
    job = Job(**spec["job"])
    on_gpu = job.settings.device != "cpu" and _has_gpu()
    dist.init_process_group("nccl" if on_gpu else "gloo")
    group = Group(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo"))
    try:
        facts = work(job, group, lambda: (desk / "stop").exists() or _gone(spec["step_pid"]))
    except Failure as failure:
        write_atomically(desk / "failure.json", json.dumps(failure.to_dict()))
        sys.exit(int(failure.exit_code))
    if group.rank == 0:
        write_atomically(desk / "facts.json", json.dumps(facts))
    dist.destroy_process_group()


def _outcome(desk: Path, code: int) -> dict[str, Any]:
    if (desk / "failure.json").exists():
        failure = Failure.from_dict(json.loads((desk / "failure.json").read_text()))
        if failure.exit_code == ExitCode.RESUMABLE:
            raise Interrupted(failure.what, where=failure.where)
        raise failure
    if not (desk / "facts.json").exists():
        raise Failure(
            f"A process of the training died, and the launcher ended with code {code}",
            where="step train",
            remedy="look at the log of the step, then run again; it goes on from the last checkpoint",
            exit_code=ExitCode.RESUMABLE,
        )
    return json.loads((desk / "facts.json").read_text())


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


if __name__ == "__main__":
    main(sys.argv[1])
