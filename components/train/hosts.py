"""The machines that train one model together, from the environment variables that Kubeflow sets for torchrun.

A TrainJob, a PyTorchJob or a JobSet starts the same step on each machine. `PET_*` are the variables that torchrun
itself reads in place of its options.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from components.shared.base.failure import ExitCode, Failure

_MOST = 64  # as many as there can be processes
_DEFAULT_PORT = "29500"  # that of torchrun
_REMEDY = "set it as torchrun reads it, or start the step by a TrainJob, a PyTorchJob or a JobSet"


@dataclass(frozen=True)
class Hosts:
    """The machines of a training and the place of this one among them.

    Attributes:
        count: the number of machines.
        rank: the number of this machine; machine 0 publishes the model and reports to MLflow.
        endpoint: `address:port` of machine 0, where all meet; "" for a single machine.
    """

    count: int = 1
    rank: int = 0
    endpoint: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Hosts:
        """The machines by `PET_NNODES`, `PET_NODE_RANK` and `PET_MASTER_ADDR`; a single one without the first.

        `JOB_COMPLETION_INDEX`, which Kubernetes sets in an indexed job, replaces `PET_NODE_RANK`. `PET_RDZV_ENDPOINT`,
        or `MASTER_ADDR` and `MASTER_PORT`, replace `PET_MASTER_ADDR` and `PET_MASTER_PORT`.

        Raises:
            Failure: a variable is missing or not valid.
        """
        count = _number(environment, "PET_NNODES", 1, _MOST, default="1")
        if count == 1:
            return cls()
        rank = _number(environment, "PET_NODE_RANK", 0, count - 1, default=environment.get("JOB_COMPLETION_INDEX"))
        return cls(count, rank, _endpoint(environment))

    def launcher_options(self, training: str, processes: int) -> list[str]:
        """The options of torchrun on this machine.

        Args:
            training: a name of the training; machines with other names do not meet.
            processes: the number of processes on all machines.
        """
        if self.count == 1:
            return ["--standalone", f"--nproc-per-node={processes}"]
        return [
            f"--nnodes={self.count}",
            f"--node-rank={self.rank}",
            f"--nproc-per-node={processes // self.count}",
            "--rdzv-backend=static",
            f"--rdzv-endpoint={self.endpoint}",
            f"--rdzv-id={training}",
        ]


def _endpoint(environment: Mapping[str, str]) -> str:
    address = environment.get("PET_MASTER_ADDR") or environment.get("MASTER_ADDR")
    port = environment.get("PET_MASTER_PORT") or environment.get("MASTER_PORT") or _DEFAULT_PORT
    endpoint = environment.get("PET_RDZV_ENDPOINT") or (f"{address}:{port}" if address else "")
    if not endpoint:
        raise _wrong("PET_MASTER_ADDR", "is not set, and PET_NNODES asks for several machines")
    if not re.fullmatch(r".+:[0-9]{1,5}", endpoint):
        raise _wrong("PET_RDZV_ENDPOINT", f"must be address:port, got {endpoint!r}")
    return endpoint


def _number(environment: Mapping[str, str], name: str, low: int, high: int, *, default: str | None) -> int:
    text = environment.get(name) or default
    if text is None:
        raise _wrong(name, "is not set, and PET_NNODES asks for several machines")
    if not re.fullmatch("[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise _wrong(name, f"must be a number from {low} to {high}, got {text!r}; a training keeps its machines")
    return int(text)


def _wrong(name: str, problem: str) -> Failure:
    return Failure(f"{name} {problem}", where="the environment of the step", remedy=_REMEDY, exit_code=ExitCode.USAGE)
