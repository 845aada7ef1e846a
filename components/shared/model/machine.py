"""What the machine is and grants this process: cores, the CPU, and memory that stays. Asked without importing torch."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from math import ceil
from pathlib import Path

_QUOTAS = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
_CPUINFO = Path("/proc/cpuinfo")
# Intel's and AMD's, then ARM's.
_BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16", "svebf16"}
# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def cores_granted() -> int:
    """Cores that this process may use: its affinity, and its control group's quota where there is one; at least 1."""
    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(granted, _quota() or granted))


@cache
def cpu_model() -> str:
    """The CPU by the name, family, model and stepping that the kernel tells; a virtual machine's name says little."""
    told = _cpuinfo()
    known = [told[key] for key in ("model name", "cpu family", "model", "stepping", "CPU part") if key in told]
    return " ".join(known) or f"{platform.machine()} {platform.processor()}".strip()


@cache
def bfloat16_instructions() -> tuple[str, ...]:
    """The instructions that multiply in bfloat16 which the CPU has, by the kernel's names for them."""
    told = _cpuinfo()
    return tuple(sorted(_BFLOAT16 & set(told.get("flags", told.get("Features", "")).split())))


def keep_freed_memory() -> None:
    """Lets the process keep what it frees, for arrays of a gigabyte or less; where libc is not glibc, nothing is done.

    glibc gives large arrays back to the kernel, and every step of a model on a CPU would ask for the same ones again,
    page by page: up to a fourth of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, 1 << 30)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def _cpuinfo() -> dict[str, str]:
    """What the kernel says of the first CPU; nothing where there is no such file."""
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
