"""The losses of a training, which are buffered on the device until they are logged, and the time of its steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from components.train.distributed import DistributedContext


class LossBuffer:
    """Loss and gradient norm of the steps since the last log point. Adding a step does not wait for the device.

    Args:
        pending: the values of a training that is resumed.
        capacity: steps between two log points.
        device: the device of the losses.
    """

    def __init__(self, pending: list[tuple[float, float]], capacity: int, device: torch.device):
        self.seen = list(pending)
        self.values = torch.zeros(capacity, 2, device=device)
        self.count = 0

    def add(self, loss: Tensor, norm: Tensor) -> None:
        self.values[self.count, 0], self.values[self.count, 1] = loss, norm
        self.count += 1

    def read(self, distributed: DistributedContext) -> list[tuple[float, float]]:
        """The values as numbers, averaged over the processes. This waits for the device."""
        values = self.values[: self.count].clone()
        distributed.all_reduce_mean_([values])
        self.seen += [(loss, norm) for loss, norm in values.tolist()]
        self.count = 0
        return list(self.seen)

    def clear(self) -> None:
        self.seen.clear()


class StepTimer:
    """Measures training time and the rate of steps. Evaluations and checkpoints count only as training time."""

    def __init__(self, seconds: float):
        now = time.perf_counter()
        self.began, self.lap_began, self.steps = now - seconds, now, 0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def tick(self) -> None:
        """Counts a finished step."""
        self.steps += 1

    def rate(self) -> float:
        """Steps per second since the last call."""
        now = time.perf_counter()
        rate, self.lap_began, self.steps = self.steps / (now - self.lap_began), now, 0
        return rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the block from the rate."""
        began = time.perf_counter()
        yield
        self.lap_began += time.perf_counter() - began


def mean_of(values: list[tuple[float, float]]) -> tuple[float, float]:
    """The mean loss and the mean gradient norm."""
    losses, norms = zip(*values, strict=True)
    return math.fsum(losses) / len(losses), math.fsum(norms) / len(norms)
