"""The device of a training and its numerics: threads, determinism, precision."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from components.shared.base.failure import ExitCode, Failure
from components.shared.model.hardware import (
    cores_granted,
    cpu_model,
    gpus_without_bfloat16,
    keep_freed_memory,
    pick_device,
    precision_by_capability,
)
from components.train.settings import TrainSettings


def choose_device(settings: TrainSettings, rank: int = 0) -> torch.device:
    """The device of a process, by its number on its machine.

    Raises:
        Failure: the settings ask for a GPU and there is none.
    """
    kind = pick_device(settings.device, "train.device")
    return torch.device(kind, rank) if kind == "cuda" else torch.device(kind)


def count_processes(settings: TrainSettings, hosts: int = 1) -> int:
    """The number of data-parallel processes: as set, or one per GPU, but no more than divide the batch.

    Args:
        settings: the settings of the training.
        hosts: the number of machines, each with as many GPUs as this one.

    Raises:
        Failure: the settings ask for more processes than there are GPUs, or the machines cannot share them equally.
    """
    on_gpus = choose_device(settings).type == "cuda"
    visible = (torch.cuda.device_count() if on_gpus else 1) * hosts
    if on_gpus and (settings.processes or 1) > visible:
        raise Failure(
            f"train.processes must be at most the number of GPUs, {visible}, got {settings.processes}",
            where="train.processes",
            remedy=f"set it to {visible}, or to null for one on each GPU",
            exit_code=ExitCode.USAGE,
        )
    sequences = settings.global_batch_size // settings.gradient_accumulation_steps
    wanted = range(hosts, visible + 1, hosts) if settings.processes is None else [settings.processes]
    shared = [count for count in wanted if count % hosts == 0 and sequences % count == 0]
    if not shared:
        raise Failure(
            f"{hosts} machines cannot share {settings.processes or sequences}"
            f" {'processes' if settings.processes else 'sequences of a micro-batch'} equally",
            where="train.processes" if settings.processes else "train.global_batch_size",
            remedy=f"set it to a multiple of {hosts}, or train on fewer machines",
            exit_code=ExitCode.USAGE,
        )
    return max(shared)


def prepare(settings: TrainSettings, device: torch.device, processes: int = 1, hosts: int = 1) -> dict[str, Any]:
    """Sets the number of threads and enables deterministic algorithms, for this process.

    Returns:
        The numerics that the weights depend on, as plain values.
    """
    numerics = numerics_of(settings, device, processes, hosts)
    torch.set_num_threads(numerics["threads"])
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cpu":
        keep_freed_memory()
    else:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = False
    if settings.compile and (home := os.environ.get("WIKIGPT_HOME")):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(home).absolute() / "compile-cache"))
    return numerics


def numerics_of(settings: TrainSettings, device: torch.device, processes: int = 1, hosts: int = 1) -> dict[str, Any]:
    """The numerics that the weights depend on beside the settings, as plain values. This has no side effects.

    Args:
        settings: the settings of the training.
        device: the device of this process.
        processes: the number of data-parallel processes.
        hosts: the number of machines with these processes.

    Returns:
        device (a GPU by its model), processor (None where it has no influence), threads per process, processes, hosts
        if there are several, precision, compiled, and the build of torch.
    """
    on_gpu = device.type == "cuda"
    # A bigram initialization is computed on the CPU, wherever training runs.
    by_cpu = not on_gpu or (settings.init == "bigram" and settings.pretrained is None)
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "processor": f"{cpu_model()}, {torch.backends.cpu.get_cpu_capability()}" if by_cpu else None,
        "threads": max(1, (settings.threads or cores_granted()) // (processes // hosts)),
        "processes": processes,
        **({"hosts": hosts} if hosts > 1 else {}),
        "precision": precision_of(settings, device),
        "compiled": settings.compile,
        "torch": torch.__version__,
    }


def precision_of(settings: TrainSettings, device: torch.device) -> str:
    """`float32` or `bfloat16`: as set, or by the capabilities of the processor.

    A command that starts a run replaces `auto` by a measurement. A training must not measure, because its weights would
    depend on the load of the machine.
    """
    return settings.precision if settings.precision != "auto" else precision_by_capability(device.type)


def remark_on_precision(settings: TrainSettings, device: torch.device) -> str | None:
    """A remark on the precision for GPUs without units for bfloat16, or None."""
    if device.type != "cuda" or not (lacking := gpus_without_bfloat16()):
        return None
    if precision_of(settings, device) == "float32":
        return f"{lacking[0]} has no units for bfloat16: training is in float32"
    return (
        f"warning: {lacking[0]} has no units for bfloat16 and emulates it, which is slower than float32;"
        " set train.precision=float32"
    )


def autocast(settings: TrainSettings, device: torch.device) -> AbstractContextManager[None]:
    """Enables autocast to bfloat16 if that is the precision."""
    enabled = precision_of(settings, device) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
