"""The processor that a model runs on, and whether it has units for bfloat16."""

from __future__ import annotations

from functools import cache
from typing import Literal

from components.shared.base.failure import ExitCode, Failure
from components.shared.model.machine import bfloat16_instructions

# Ampere; torch emulates bfloat16 on what came before it (V100 is 7.0, T4 is 7.5), slower than it computes in float32.
_FIRST_WITH_BFLOAT16 = (8, 0)


def pick_device(wanted: str, where: str) -> Literal["cpu", "cuda"]:
    """The processor that a setting means on this machine.

    Args:
        wanted: `auto`, `cpu` or `cuda`.
        where: the name of the setting.

    Raises:
        Failure: a GPU is asked for where torch sees none.
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
    """Names of the GPUs that torch sees and that have no units for bfloat16, by their compute capability."""
    import torch

    if torch.version.hip:
        return []
    gpus = range(torch.cuda.device_count())
    lacking = [gpu for gpu in gpus if torch.cuda.get_device_capability(gpu) < _FIRST_WITH_BFLOAT16]
    return [torch.cuda.get_device_name(gpu) for gpu in lacking]


@cache
def precision_by_capability(device: str) -> Literal["float32", "bfloat16"]:
    """The precision where nobody measured: bfloat16 on GPUs that all have units for it and on CPUs with AMX."""
    if device == "cuda":
        return "float32" if gpus_without_bfloat16() else "bfloat16"
    return "bfloat16" if "amx_bf16" in bfloat16_instructions() else "float32"
