"""Places: what the pod of each step asks of its node."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

_CPU = re.compile(r"([0-9]*[.])?[0-9]+m?")
_MEMORY = re.compile(r"([0-9]+)(Ei|Pi|Ti|Gi|Mi|Ki|E|P|T|G|M|K)?")
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def in_bytes(memory: str) -> int:
    """Bytes of a Kubernetes quantity of memory, as in `8Gi` or `500M`.

    Raises:
        ValueError: it is no such quantity.
    """
    if not (match := _MEMORY.fullmatch(memory)):
        raise ValueError(f"{memory!r} is no quantity of memory, as 8Gi is")
    number, unit = int(match[1]), match[2] or ""
    return number * (1024 if unit.endswith("i") else 1000) ** (_POWERS[unit[0]] if unit else 0)


def _cores(cpu: str) -> float:
    return float(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the pod of one step asks of its node.

    Attributes:
        cpu_request: cores that the scheduler reserves, as in `500m` or `4`.
        cpu_limit: cores that the kernel grants at most.
        memory_request: that the scheduler reserves, as in `8Gi`.
        memory_limit: above which the kernel kills; the memory volume at /dev/shm counts too.
        gpus: of the cluster's `gpu_type`; with any, the step runs in the GPU pool.
        shared_memory: most that /dev/shm may hold, through which NCCL moves data between the processes of one pod; it
            reserves nothing, and what is written counts as memory. None leaves the runtime's 64 MiB.
        timeout_seconds: of one attempt, after which Kubernetes ends its pod.
        retries: after the first attempt. An attempt goes on from what the one before it published.
    """

    # Read by pydantic where YAML becomes values: a key that is mistyped is an error, not a default.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "coerce_numbers_to_str": True}

    cpu_request: str = "500m"
    cpu_limit: str = "2"
    memory_request: str = "1Gi"
    memory_limit: str = "4Gi"
    gpus: int = 0
    shared_memory: str | None = None
    timeout_seconds: int = 3600
    retries: int = 2

    def __post_init__(self) -> None:
        for name in ("cpu_request", "cpu_limit"):
            if not _CPU.fullmatch(getattr(self, name)):
                raise ValueError(f"{name} must be cores, as in 500m or 4, got {getattr(self, name)!r}")
        for name in ("memory_request", "memory_limit", "shared_memory"):
            value = getattr(self, name)
            if value is not None and not _MEMORY.fullmatch(value):
                raise ValueError(f"{name} must be a quantity of memory, as in 8Gi, got {value!r}")
        if _cores(self.cpu_request) > _cores(self.cpu_limit):
            raise ValueError(f"cpu_request must not be above cpu_limit {self.cpu_limit}, got {self.cpu_request}")
        if in_bytes(self.memory_request) > in_bytes(self.memory_limit):
            raise ValueError(
                f"memory_request must not be above memory_limit {self.memory_limit}, got {self.memory_request}"
            )
        if self.shared_memory and in_bytes(self.shared_memory) >= in_bytes(self.memory_limit):
            raise ValueError(
                f"shared_memory must be below memory_limit {self.memory_limit}, which it counts against, "
                f"got {self.shared_memory}"
            )
        if self.gpus < 0:
            raise ValueError(f"gpus must be at least 0, got {self.gpus}")
        if self.timeout_seconds < 1:
            raise ValueError(f"timeout_seconds must be at least 1, got {self.timeout_seconds}")
        if self.retries < 0:
            raise ValueError(f"retries must be at least 0, got {self.retries}")


@dataclass(frozen=True, kw_only=True)
class TokenizePlace(Place):
    """Training a BPE keeps the pair counts of the whole train split in memory."""

    cpu_request: str = "1"
    cpu_limit: str = "4"
    memory_request: str = "2Gi"


@dataclass(frozen=True, kw_only=True)
class TrainPlace(Place):
    """The only step that takes hours; it resumes from its checkpoints, so a retry loses minutes.

    With several GPUs it is one process a GPU, and NCCL fails on the runtime's 64 MiB of shared memory: NVIDIA advises
    1 GiB. Nothing else uses it, since batches are read without worker processes.
    """

    cpu_request: str = "4"
    cpu_limit: str = "8"
    memory_request: str = "12Gi"
    memory_limit: str = "24Gi"
    gpus: int = 1
    shared_memory: str | None = "1Gi"
    timeout_seconds: int = 12 * 3600
    retries: int = 3


@dataclass(frozen=True, kw_only=True)
class EvaluatePlace(Place):
    """Scores two splits and writes samples, in one process: minutes on a GPU."""

    cpu_request: str = "2"
    cpu_limit: str = "4"
    memory_request: str = "6Gi"
    memory_limit: str = "12Gi"
    gpus: int = 1
    timeout_seconds: int = 2 * 3600


@dataclass(frozen=True, kw_only=True)
class NoticePlace(Place):
    """Runs whatever happened, so it asks for little and does not hold a run open."""

    cpu_request: str = "100m"
    cpu_limit: str = "1"
    memory_request: str = "256Mi"
    memory_limit: str = "1Gi"
    timeout_seconds: int = 600
