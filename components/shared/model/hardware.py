"""The hardware of this machine: CPU cores, CPU model, GPU, and the precision in which matrix products are fast.

No function imports torch before it needs it. `python -m components.shared.model.hardware cpu 2` prints the choice of
precision as JSON: it is a separate program, so that its caller need not import torch or change the number of threads.
A CPU may support bfloat16 without a unit for it. Products in bfloat16 then take up to twice as long as in float32, so
the speed is measured.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Literal

from components.shared.base.failure import ExitCode, Failure

Precision = Literal["float32", "bfloat16"]

# Ampere. torch emulates bfloat16 on earlier GPUs (V100 is 7.0, T4 is 7.5), and the emulation is slower than float32.
_FIRST_WITH_BFLOAT16 = (8, 0)
# Autocast rounds weights and activations at every use: where products were 2.6 times as fast, a whole training step was
# 1.7 times as fast. Below this ratio, a step would be slower.
WORTH_IT = 1.5
# The seconds of the measurement, and the fewest rounds for a slow CPU.
_SECONDS, _ROUNDS = 0.3, 3
_ROWS, _INNER, _COLUMNS = 1024, 512, 512

_QUOTAS = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
_CPUINFO = Path("/proc/cpuinfo")
# Instructions of Intel and AMD, then of ARM.
_BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16", "svebf16"}
# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def pick_device(wanted: str, where: str) -> Literal["cpu", "cuda"]:
    """The device that a setting selects on this machine.

    Args:
        wanted: `auto`, `cpu` or `cuda`.
        where: the name of the setting.

    Raises:
        Failure: the setting asks for a GPU and torch sees none.
    """
    import torch

    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    raise Failure(
        "There is no GPU that torch can use",
        where=where,
        remedy=f"set {where} to auto or cpu, or run where there is a GPU and a CUDA build of torch",
        exit_code=ExitCode.USAGE,
    )


def gpus_without_bfloat16() -> list[str]:
    """Names of the GPUs that torch sees and whose compute capability includes no bfloat16 units."""
    import torch

    if torch.version.hip:
        return []
    gpus = range(torch.cuda.device_count())
    lacking = [gpu for gpu in gpus if torch.cuda.get_device_capability(gpu) < _FIRST_WITH_BFLOAT16]
    return [torch.cuda.get_device_name(gpu) for gpu in lacking]


@cache
def precision_by_capability(device: str) -> Precision:
    """The precision to use without a measurement: bfloat16 on GPUs that all have units for it and on CPUs with AMX."""
    if device == "cuda":
        return "float32" if gpus_without_bfloat16() else "bfloat16"
    return "bfloat16" if "amx_bf16" in bfloat16_instructions() else "float32"


@dataclass(frozen=True)
class PrecisionChoice:
    """A precision and the reason for it.

    Attributes:
        precision: the precision to compute in.
        reason: a phrase for people.
        gflops: the speed of products by precision, in 10^9 operations per second; empty if nothing was measured.
    """

    precision: Precision
    reason: str
    gflops: dict[str, float]


def choose_precision(gflops: dict[str, float]) -> PrecisionChoice:
    """The precision of a CPU, chosen by the measured speed of products in each precision."""
    ratio = gflops["bfloat16"] / gflops["float32"]
    chosen: Precision = "bfloat16" if ratio >= WORTH_IT else "float32"
    return PrecisionChoice(chosen, f"products in bfloat16 run at {ratio:.1f} times the speed of float32", gflops)


def choose_gpu_precision() -> PrecisionChoice:
    """The precision of the GPUs that torch sees."""
    if lacking := gpus_without_bfloat16():
        return PrecisionChoice("float32", f"{lacking[0]} has no units for bfloat16", {})
    return PrecisionChoice("bfloat16", "the GPU has units for bfloat16", {})


def measure_precision(device: str, threads: int) -> PrecisionChoice:
    """The precision in which this machine multiplies fast; it measures a CPU, and asks a GPU for its units.

    Args:
        device: `cpu` or `cuda`.
        threads: the number of CPU threads of the measurement.
    """
    return choose_gpu_precision() if device == "cuda" else choose_precision(measure_gflops(threads))


def measure_gflops(threads: int) -> dict[str, float]:
    """The speed of matrix products on the CPU by precision, in 10^9 operations per second. This takes 0.3 s.

    The precisions alternate and the fastest round of each counts, so that other work on the machine affects both alike.
    """
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(_ROWS, _INNER), torch.randn(_INNER, _COLUMNS)
    operands = {"float32": (a, b), "bfloat16": (a.bfloat16(), b.bfloat16())}
    for left, right in operands.values():
        left @ right  # the first product of a precision also compiles its kernel
    best = dict.fromkeys(operands, float("inf"))
    end, rounds = time.perf_counter() + _SECONDS, 0
    while rounds < _ROUNDS or time.perf_counter() < end:
        for name, (left, right) in operands.items():
            began = time.perf_counter()
            left @ right
            best[name] = min(best[name], time.perf_counter() - began)
        rounds += 1
    return {name: round(2 * _ROWS * _INNER * _COLUMNS / seconds / 1e9, 1) for name, seconds in best.items()}


def cores_granted() -> int:
    """The number of cores that this process may use: its affinity, limited by the quota of its cgroup; at least 1."""
    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(granted, _quota() or granted))


@cache
def cpu_model() -> str:
    """The name, family, model and stepping of the CPU from /proc/cpuinfo; a virtual machine may give a general name."""
    cpuinfo = _cpuinfo()
    keys = ("model name", "cpu family", "model", "stepping", "CPU part")
    known = [cpuinfo[key] for key in keys if key in cpuinfo]
    return " ".join(known) or f"{platform.machine()} {platform.processor()}".strip()


@cache
def bfloat16_instructions() -> tuple[str, ...]:
    """The CPU's instructions that multiply in bfloat16, by the kernel's names for them."""
    cpuinfo = _cpuinfo()
    return tuple(sorted(_BFLOAT16 & set(cpuinfo.get("flags", cpuinfo.get("Features", "")).split())))


def keep_freed_memory() -> None:
    """Makes the process keep freed arrays of up to a gigabyte for reuse; without glibc, nothing is changed.

    By default glibc returns large arrays to the kernel, and every step of a model on a CPU would request the same
    arrays again, page by page, which takes up to a fourth of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def _cpuinfo() -> dict[str, str]:
    """The entry of the first CPU in /proc/cpuinfo; empty if there is no such file."""
    try:
        first = _CPUINFO.read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    lines = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _quota() -> int | None:
    try:
        if _QUOTAS[0].is_file():
            quota, period = _QUOTAS[0].read_text(encoding="utf-8").split()
        else:
            quota, period = (
                _QUOTAS[1].read_text(encoding="utf-8"),
                _QUOTAS[1].with_name("cpu.cfs_period_us").read_text(encoding="utf-8"),
            )
        return ceil(int(quota) / int(period)) if int(quota) > 0 else None
    except (OSError, ValueError):  # no cgroup, or "max"
        return None


if __name__ == "__main__":
    device, threads = sys.argv[1:]
    print(json.dumps(asdict(measure_precision(device, int(threads)))))
