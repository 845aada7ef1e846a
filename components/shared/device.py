"""The processor that a model runs on."""

from __future__ import annotations

from typing import Literal

from components.shared.failure import ExitCode, Failure


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
