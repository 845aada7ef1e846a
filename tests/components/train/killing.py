"""Trainings that end at a chosen point: killed in a separate process, or stopped in this one."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.step import Step


def train_in_process(
    step: Step, folders: tuple[Path, Path], environment: dict[str, str], die_at_write: int | None
) -> None:
    """Runs the step and kills it before its nth write to the store, if there is one.

    A write is a blob, a manifest or a claim: the step may die before a checkpoint, between its parts, and before the
    record that points to it.
    """
    os.environ.update(environment)
    from components.shared.storage.local import LocalObjects
    from components.train.run import run

    writes = [0]

    def deadly(method: Any) -> Any:
        def write(*args: Any, **named: Any) -> Any:
            writes[0] += 1
            if writes[0] == die_at_write:
                os.kill(os.getpid(), signal.SIGKILL)
            return method(*args, **named)

        return write

    LocalObjects.put, LocalObjects.upload = deadly(LocalObjects.put), deadly(LocalObjects.upload)  # type: ignore
    tokens_dir, model_dir = folders
    run(step, "f" * 32, tokens_dir, model_dir)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, *, steps: int) -> None:
    """Makes the next training of this process stop after some steps, as SIGTERM does."""
    from components.train.loop import train

    def stopped(*args: Any, **options: Any) -> Any:
        asked = iter(range(steps - 1))
        return train(*args, **{**options, "stop_requested": lambda: next(asked, None) is None})

    monkeypatch.setattr("components.train.job.train", stopped)
