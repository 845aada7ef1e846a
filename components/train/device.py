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
    """The device of a process.

    Raises:
        Failure: the settings ask for a GPU and there is none.
    """
    kind = pick_device(settings.device, "train.device")
    return torch.device(kind, rank) if kind == "cuda" else torch.device(kind)


def count_processes(settings: TrainSettings) -> int:
    """The number of data-parallel processes: as set, or one per GPU, but no more than divide the batch.

    Raises:
        Failure: the settings ask for more processes than there are GPUs.
    """
    on_gpus = choose_device(settings).type == "cuda"
    visible = torch.cuda.device_count() if on_gpus else 1
    if on_gpus and (settings.processes or 1) > visible:
        raise Failure(
            f"train.processes must be at most the number of GPUs, {visible}, got {settings.processes}",
            where="train.processes",
            remedy=f"set it to {visible}, or to null for one on each GPU",
            exit_code=ExitCode.USAGE,
        )
    if settings.processes is not None:
        return settings.processes
    sequences = settings.global_batch_size // settings.gradient_accumulation_steps
    return max(count for count in range(1, visible + 1) if sequences % count == 0)


def prepare(settings: TrainSettings, device: torch.device, processes: int = 1) -> dict[str, Any]:
    """Sets the number of threads and enables deterministic algorithms, for this process.

    Returns:
        The numerics that the weights depend on, as plain values.
    """
    numerics = numerics_of(settings, device, processes)
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


def numerics_of(settings: TrainSettings, device: torch.device, processes: int = 1) -> dict[str, Any]:
    """The numerics that the weights depend on beside the settings, as plain values. This has no side effects.

    Args:
        settings: the settings of the training.
        device: the device of this process.
        processes: the number of data-parallel processes.

    Returns:
        device (a GPU by its model), processor (None where it has no influence), threads per process, processes,
        precision, compiled, and the build of torch.
    """
    on_gpu = device.type == "cuda"
    # A bigram initialization is computed on the CPU, wherever training runs.
    by_cpu = not on_gpu or (settings.init == "bigram" and settings.pretrained is None)
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "processor": f"{cpu_model()}, {torch.backends.cpu.get_cpu_capability()}" if by_cpu else None,
        "threads": max(1, (settings.threads or cores_granted()) // processes),
        "processes": processes,
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
