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
from typing import Any, NoReturn

from components.shared.base.failure import ExitCode, Failure, Interrupted
from components.shared.runtime.liveness import process_started
from components.shared.runtime.step import wrap_unexpected
from components.shared.storage.files import write_atomically
from components.train.device import choose_device
from components.train.distributed import Group, PeerLost
from components.train.job import Job, work

# Seconds; the first process is given as long to end before the others, which is longer than a `Record` takes to end.
_LOOK_EVERY, _LEAVE_WITHIN = 0.2, 20.0


def work_together(job: Job, processes: int, told_to_stop: Callable[[], bool]) -> dict[str, Any]:
    """Trains in several processes of this machine.

    Returns:
        The facts of the model.

    Raises:
        Interrupted: asked to stop, after the state was kept.
        Failure: what a process raised; or that one died, after which a later run goes on from the last checkpoint.
    """
    with tempfile.TemporaryDirectory(prefix="wikigpt-training-") as scratch:
        desk = Path(scratch)
        step = {"pid": os.getpid(), "started": process_started(os.getpid())}
        write_atomically(desk / "job.json", json.dumps({"job": asdict(job), "step": step}))
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
    spec = json.loads((desk / "job.json").read_text(encoding="utf-8"))
    job = Job(**spec["job"])
    dist.init_process_group("nccl" if choose_device(job.settings).type == "cuda" else "gloo")
    group = Group(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo"))
    step = spec["step"]
    try:
        facts = work(job, group, lambda: (desk / "stop").exists() or process_started(step["pid"]) != step["started"])
    except PeerLost:
        sys.exit(int(ExitCode.RESUMABLE))  # what became of the other is its own to say
    except Failure as failure:
        _leave(desk, group, failure)
    except Exception as error:
        _say(desk, group, wrap_unexpected(error, "train"))
        sys.exit(int(ExitCode.FAILED))
    if group.rank == 0:
        write_atomically(desk / "facts.json", json.dumps(facts))
    dist.destroy_process_group()


def _leave(desk: Path, group: Group, failure: Failure) -> NoReturn:
    """Ends this process by a failure that all processes are likely to share.

    The first of them has metrics to deliver then, and would be ended by the launcher with whoever ends before it.
    """
    _say(desk, group, failure)
    if group.rank == 0:
        (desk / "left").touch()
    patience = time.monotonic() + _LEAVE_WITHIN
    while not (desk / "left").exists() and time.monotonic() < patience:
        time.sleep(_LOOK_EVERY)
    sys.exit(int(failure.exit_code))


def _say(desk: Path, group: Group, failure: Failure) -> None:
    """Leaves a failure for the step; that of the first process counts."""
    if group.rank == 0 or not (desk / "failure.json").exists():
        write_atomically(desk / "failure.json", json.dumps(failure.to_dict()))


def _outcome(desk: Path, code: int) -> dict[str, Any]:
    if (desk / "failure.json").exists():
        failure = Failure.from_dict(json.loads((desk / "failure.json").read_text(encoding="utf-8")))
        if failure.exit_code == ExitCode.RESUMABLE:
            raise Interrupted(failure.what, where=failure.where, remedy=failure.remedy)
        raise failure
    if not (desk / "facts.json").exists():
        raise Failure(
            f"A process of the training died, and the launcher ended with code {code}",
            where="step train",
            remedy="look at the log of the step, then run again; it goes on from the last checkpoint",
            exit_code=ExitCode.RESUMABLE,
        )
    return json.loads((desk / "facts.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1])
