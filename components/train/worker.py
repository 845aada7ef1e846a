"""Data-parallel training processes. The step starts, watches and stops them; `main` is the body of each.

They are the children of torch's elastic launcher, which ends all processes when one dies. Of several machines each runs
the step, with a launcher of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

from components.shared.base.failure import ExitCode, Failure, Interrupted
from components.shared.runtime.liveness import process_started
from components.shared.runtime.step import wrap_unexpected
from components.shared.storage.files import write_atomically
from components.train import checkpoint_manager
from components.train.device import choose_device
from components.train.distributed import DistributedContext, PeerLost
from components.train.hosts import Hosts
from components.train.job import Job, run_worker
from components.train.settings import TrainSettings

# Seconds. Rank 0 gets this long to exit before the others, which is longer than the end of a `MetricsReporter`.
_POLL_INTERVAL, _EXIT_TIMEOUT = 0.2, 20.0


def launch_workers(job: Job, processes: int, hosts: Hosts, stop_requested: Callable[[], bool]) -> dict[str, Any]:
    """Trains in several processes, and runs those of this machine.

    Returns:
        The metadata of the model; nothing on machines other than the first.

    Raises:
        Interrupted: a stop was requested, and the state is saved.
        Failure: a process raised it; or a process died, and a later run resumes from the last checkpoint.
    """
    with tempfile.TemporaryDirectory(prefix="wikigpt-training-") as scratch:
        rendezvous_dir = Path(scratch)
        step = {"pid": os.getpid(), "started": process_started(os.getpid())}
        write_atomically(rendezvous_dir / "job.json", json.dumps({"job": asdict(job), "step": step}))
        options = hosts.launcher_options(job.reuse_key, processes)
        # The launcher would take its other options from these variables.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PET_")}
        # In their own session they get no signals to the step's process group; the step stops them after a step.
        process = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *options, "-m", "components.train.worker", scratch],
            env={**environment, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                if stop_requested():
                    (rendezvous_dir / "stop").touch()
                time.sleep(_POLL_INTERVAL)
        finally:
            process.terminate()
            process.wait()
        return _outcome(rendezvous_dir, process.returncode, hosts)


def main(scratch: str) -> None:
    """The body of one process, under the launcher's variables RANK, LOCAL_RANK and WORLD_SIZE."""
    import torch.distributed as dist

    rendezvous_dir = Path(scratch)
    spec = json.loads((rendezvous_dir / "job.json").read_text(encoding="utf-8"))
    job = Job(**spec["job"])
    settings = job.step.section(TrainSettings)
    dist.init_process_group("nccl" if choose_device(settings).type == "cuda" else "gloo")
    distributed = DistributedContext(
        dist.get_rank(),
        dist.get_world_size(),
        local_rank=int(os.environ["LOCAL_RANK"]),
        hosts=int(os.environ["GROUP_WORLD_SIZE"]),
        host=dist.new_group(backend="gloo"),
    )
    step = spec["step"]

    def stop_requested() -> bool:
        return (rendezvous_dir / "stop").exists() or process_started(step["pid"]) != step["started"]

    try:
        job = _with_shared_checkpoint(job, distributed, rendezvous_dir / "checkpoint")
        metadata = run_worker(job, settings, distributed, stop_requested)
    except PeerLost:
        sys.exit(int(ExitCode.RESUMABLE))  # the lost process reports its own failure
    except Failure as failure:
        _exit(rendezvous_dir, distributed, failure)
    except Exception as error:
        _write_failure(rendezvous_dir, distributed, wrap_unexpected(error, "train"))
        sys.exit(int(ExitCode.FAILED))
    if distributed.rank == 0:
        write_atomically(rendezvous_dir / "metadata.json", json.dumps(metadata))
    dist.destroy_process_group()


def _exit(rendezvous_dir: Path, distributed: DistributedContext, failure: Failure) -> NoReturn:
    """Exits this process with a failure that all processes are likely to share.

    Rank 0 still has metrics to deliver, and the launcher would end it as soon as another process of its machine exits.
    """
    _write_failure(rendezvous_dir, distributed, failure)
    if not distributed.beside_rank_0:
        sys.exit(int(failure.exit_code))
    if distributed.rank == 0:
        (rendezvous_dir / "rank0-exited").touch()
    deadline = time.monotonic() + _EXIT_TIMEOUT
    while not (rendezvous_dir / "rank0-exited").exists() and time.monotonic() < deadline:
        time.sleep(_POLL_INTERVAL)
    sys.exit(int(failure.exit_code))


def _write_failure(rendezvous_dir: Path, distributed: DistributedContext, failure: Failure) -> None:
    """Writes a failure for the step. The failure of rank 0 replaces those of other ranks."""
    if distributed.rank == 0 or not (rendezvous_dir / "failure.json").exists():
        write_atomically(rendezvous_dir / "failure.json", json.dumps(failure.to_dict()))


def _with_shared_checkpoint(job: Job, distributed: DistributedContext, folder: Path) -> Job:
    """The job with the checkpoint that the first machine found, which the others fetch.

    Each machine would find the newest one, and these could differ.
    """
    step = distributed.from_rank_0(int(Path(job.resume_from).name) if job.resume_from else 0)
    if distributed.hosts == 1 or step == 0:
        return job
    if not distributed.beside_rank_0 and distributed.local_rank == 0:
        checkpoint_manager.fetch(job.step.store, job.reuse_key, step, folder)
    distributed.barrier()
    return job if distributed.beside_rank_0 else replace(job, resume_from=str(folder))


def _outcome(rendezvous_dir: Path, code: int, hosts: Hosts) -> dict[str, Any]:
    if (rendezvous_dir / "failure.json").exists():
        failure = Failure.from_dict(json.loads((rendezvous_dir / "failure.json").read_text(encoding="utf-8")))
        if failure.exit_code == ExitCode.RESUMABLE:
            raise Interrupted(failure.what, where=failure.where, remedy=failure.remedy)
        raise failure
    if code == 0 and hosts.rank:
        return {}
    if not (rendezvous_dir / "metadata.json").exists():
        raise Failure(
            f"A process of the training died, and the launcher ended with code {code}",
            where="step train",
            remedy="look at the log of the step, then run again to resume from the last checkpoint",
            exit_code=ExitCode.RESUMABLE,
        )
    return json.loads((rendezvous_dir / "metadata.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1])
