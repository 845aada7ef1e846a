"""Resources, time-outs and retries of the pod of each step."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from components.shared.base.ranges import Range, check_ranges, safe_repr

_CPU = re.compile(r"([0-9]{0,300}[.])?[0-9]{1,300}m?")
_MEMORY = re.compile(r"([0-9]{1,4000})(Ei|Pi|Ti|Gi|Mi|Ki|E|P|T|G|M|K)?")
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}


def in_bytes(memory: str) -> int:
    """Returns the bytes of a Kubernetes quantity of memory, such as `8Gi` or `500M`.

    Raises:
        ValueError: the text is not a quantity of memory.
    """
    if not (match := _MEMORY.fullmatch(memory)):
        raise ValueError(f"{safe_repr(memory)} is not a quantity of memory, such as 8Gi")
    number, unit = int(match[1]), match[2] or ""
    return number * (1024 if unit.endswith("i") else 1000) ** (_POWERS[unit[0]] if unit else 0)


def in_cores(cpu: str) -> float:
    """Returns the cores of a Kubernetes quantity of CPU, such as `4` or `500m`.

    Raises:
        ValueError: the text is not a quantity of CPU.
    """
    if not _CPU.fullmatch(cpu):
        raise ValueError(f"{safe_repr(cpu)} is not a number of cores, such as 500m or 4")
    return float(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)


@dataclass(frozen=True)
class Quantity:
    """The limits of a Kubernetes quantity, which are quantities too.

    Attributes:
        low, high: the limits.
        read: a function that converts a quantity to a number, or raises ValueError.
        form: a description of a quantity, such as "cores, as in 500m or 4".
    """

    low: str
    high: str
    read: Callable[[str], float]
    form: str

    def problem(self, value: Any) -> str | None:
        try:
            amount = self.read(value)
        except ValueError:
            return f"must be {self.form}, got {safe_repr(value)}"
        low, high = self.read(self.low), self.read(self.high)
        if low <= amount <= high:
            return None
        nearest = self.low if amount < low else self.high
        return f"must be from {self.low} to {self.high}, got {safe_repr(value)}; the nearest is {nearest}"


_CORES = Quantity("1m", "1024", in_cores, "cores, as in 500m or 4")
# A container with less memory does not start.
_BYTES = Quantity("16Mi", "64Ti", in_bytes, "a quantity of memory, as in 8Gi")
# Argo Workflows stores seconds in 32 bits.
SECONDS = Range(1, 2**31 - 1)
_GPUS = Range(0, 64)
_RETRIES = Range(0, 100)


@dataclass(frozen=True, kw_only=True)
class StepResources:
    """Resources, time-out and retries of the pod of one step.

    Attributes:
        cpu_request: the cores that the scheduler reserves, such as `500m` or `4`.
        cpu_limit: the cores that the kernel grants at most.
        memory_request: the bytes that the scheduler reserves, such as `8Gi`.
        memory_limit: the bytes above which the kernel kills the container; the memory volume at /dev/shm counts too.
        gpus: the number of GPUs of the cluster's `gpu_type`; a step with GPUs runs in the GPU pool.
        shared_memory: the size limit of /dev/shm, through which NCCL moves data between the processes of one pod. It
            reserves nothing, and its contents count as memory. None keeps the runtime's 64 MiB.
        timeout_seconds: the seconds after which Kubernetes stops the pod of one attempt.
        retries: the number of attempts after the first. An attempt continues from what the previous one published.
    """

    # For pydantic, when it parses YAML: a mistyped key is an error, not a default.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "coerce_numbers_to_str": True}

    cpu_request: Annotated[str, _CORES] = "500m"
    cpu_limit: Annotated[str, _CORES] = "2"
    memory_request: Annotated[str, _BYTES] = "1Gi"
    memory_limit: Annotated[str, _BYTES] = "4Gi"
    gpus: Annotated[int, _GPUS] = 0
    shared_memory: Annotated[str | None, _BYTES] = None
    timeout_seconds: Annotated[int, SECONDS] = 3600
    retries: Annotated[int, _RETRIES] = 2

    def __post_init__(self) -> None:
        check_ranges(self)
        if in_cores(self.cpu_request) > in_cores(self.cpu_limit):
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


@dataclass(frozen=True, kw_only=True)
class TokenizeResources(StepResources):
    """Training a BPE tokenizer keeps the pair counts of the whole train split in memory."""

    cpu_request: Annotated[str, _CORES] = "1"
    cpu_limit: Annotated[str, _CORES] = "4"
    memory_request: Annotated[str, _BYTES] = "2Gi"


@dataclass(frozen=True, kw_only=True)
class TrainResources(StepResources):
    """Training is the only step that takes hours; it resumes from its checkpoints, so a retry loses minutes.

    With several GPUs there is one process per GPU, and NCCL fails on the runtime's 64 MiB of shared memory: NVIDIA
    advises 1 GiB. Nothing else uses the shared memory, since batches are read without worker processes.
    """

    cpu_request: Annotated[str, _CORES] = "4"
    cpu_limit: Annotated[str, _CORES] = "8"
    memory_request: Annotated[str, _BYTES] = "12Gi"
    memory_limit: Annotated[str, _BYTES] = "24Gi"
    gpus: Annotated[int, _GPUS] = 1
    shared_memory: Annotated[str | None, _BYTES] = "1Gi"
    timeout_seconds: Annotated[int, SECONDS] = 12 * 3600
    retries: Annotated[int, _RETRIES] = 3


@dataclass(frozen=True, kw_only=True)
class EvaluateResources(StepResources):
    """The step scores two splits and writes samples in one process, which takes minutes on a GPU."""

    cpu_request: Annotated[str, _CORES] = "2"
    cpu_limit: Annotated[str, _CORES] = "4"
    memory_request: Annotated[str, _BYTES] = "6Gi"
    memory_limit: Annotated[str, _BYTES] = "12Gi"
    gpus: Annotated[int, _GPUS] = 1
    timeout_seconds: Annotated[int, SECONDS] = 2 * 3600


@dataclass(frozen=True, kw_only=True)
class NotifyResources(StepResources):
    """The step runs whatever the outcome of the run is, so it gets few resources and a short time-out."""

    cpu_request: Annotated[str, _CORES] = "100m"
    cpu_limit: Annotated[str, _CORES] = "1"
    memory_request: Annotated[str, _BYTES] = "256Mi"
    memory_limit: Annotated[str, _BYTES] = "1Gi"
    timeout_seconds: Annotated[int, SECONDS] = 600
