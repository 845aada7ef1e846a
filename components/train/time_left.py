"""Estimates the time that a training still takes."""

from __future__ import annotations

import math
from typing import Any

JUMP = 1.25  # an estimate is at most this many times the one before it
_WEIGHT = 0.2  # of the newest interval in a smoothed duration
_OUTLIER = 2.0  # a longer interval counts as this many times the smoothed duration


class TimeLeft:
    """Estimates the time left from the smoothed durations of a step and of an evaluation, which pauses the steps.

    An estimate is at most `JUMP` times the one before it, and at least what is left of that one divided by `JUMP`. One
    slow interval therefore hardly changes it, and a lasting change of the speed takes several rows.

    Args:
        evaluated: the step of the last evaluation before this process.
    """

    def __init__(self, evaluated: int = 0):
        self.evaluated, self.every = evaluated, 0
        self.step_seconds: float | None = None
        self.evaluation_seconds: float | None = None
        self.last: tuple[int, float] | None = None
        self.estimate: float | None = None

    def update(self, row: dict[str, Any], steps: int, now: float) -> float | None:
        """The estimate in seconds after a row of the loss curve; None before there is a speed without compilation.

        Args:
            row: a row of the loss curve, see `components.train.loop.train`. The speed in it excludes evaluations.
            steps: the number of steps of the training.
            now: the time of the row in seconds.
        """
        step = row["step"]
        last, before = self.last or (step, now)
        if "validation_loss" in row:
            if self.step_seconds is not None:
                pause = max(0.0, now - before - (step - last) * self.step_seconds)
                self.evaluation_seconds = _smoothed(self.evaluation_seconds, pause)
            self.every, self.evaluated = max(1, step - self.evaluated), step
        elif self.last is not None and (speed := row.get("tokens_per_second")):  # the first row includes compilation
            self.step_seconds = _smoothed(self.step_seconds, row["tokens"] / step / speed)
        self.last = step, now
        if self.step_seconds is None:
            return None
        left = (steps - step) * self.step_seconds
        if self.evaluation_seconds is not None:
            left += math.ceil((steps - self.evaluated) / self.every) * self.evaluation_seconds
        if self.estimate is not None:
            left = min(max(left, (self.estimate - (now - before)) / JUMP), self.estimate * JUMP)
        self.estimate = left
        return left


def _smoothed(smoothed: float | None, newest: float) -> float:
    if smoothed is None:
        return newest
    return smoothed + _WEIGHT * (min(newest, _OUTLIER * smoothed) - smoothed)
