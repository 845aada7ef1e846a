"""The curve of a training: losses gathered on the device, read when they are shown, and the time they took."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from components.train.distributed import Group


class Curve:
    """Loss and gradient norm of the steps since the last log point. Adding to it does not wait for the device.

    Args:
        pending: those of a training that goes on.
        capacity: steps between two log points.
        device: where losses are.
    """

    def __init__(self, pending: list[tuple[float, float]], capacity: int, device: torch.device):
        self.seen = list(pending)
        self.values = torch.zeros(capacity, 2, device=device)
        self.count = 0

    def add(self, loss: Tensor, norm: Tensor) -> None:
        self.values[self.count, 0], self.values[self.count, 1] = loss, norm
        self.count += 1

    def read(self, group: Group) -> list[tuple[float, float]]:
        """The values as numbers, which waits for the device; the mean over the processes, taken once."""
        values = self.values[: self.count].clone()
        group.mean([values])
        self.seen += [(loss, norm) for loss, norm in values.tolist()]
        self.count = 0
        return list(self.seen)

    def clear(self) -> None:
        self.seen.clear()


class Clock:
    """Seconds of training. Those of evaluations and checkpoints count as training, but not as steps."""

    def __init__(self, seconds: float):
        now = time.perf_counter()
        self.began, self.lap_began, self.steps = now - seconds, now, 0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def tick(self) -> None:
        """A step ended."""
        self.steps += 1

    def rate(self) -> float:
        """Steps a second since the last call."""
        now = time.perf_counter()
        rate, self.lap_began, self.steps = self.steps / (now - self.lap_began), now, 0
        return rate

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not lower the rate."""
        began = time.perf_counter()
        yield
        self.lap_began += time.perf_counter() - began


def mean_of(values: list[tuple[float, float]]) -> tuple[float, float]:
    """The mean loss and the mean gradient norm."""
    losses, norms = zip(*values, strict=True)
    return math.fsum(losses) / len(losses), math.fsum(norms) / len(norms)
