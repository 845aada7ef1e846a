"""Properties of this machine, found without importing torch, since the command must start fast."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def gpus() -> int:
    """The number of NVIDIA GPUs that the installed torch can use; 0 for a CPU build, and without torch."""
    try:
        if "+cpu" in version("torch"):
            return 0
    except PackageNotFoundError:
        return 0
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def commit() -> str:
    """The commit of the checkout of this code, with `-dirty` if it was edited; "" outside a checkout."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        # Error messages of git are in the encoding of the locale.
        ended = subprocess.run(git, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=True)
        return ended.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
