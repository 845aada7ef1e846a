"""The clock of a training."""

from __future__ import annotations

import pytest

from components.train import metrics
from components.train.metrics import StepTimer


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The simulated time."""
    wall = [100.0]
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: wall[0])
    return wall


def test_the_speed_of_a_resumed_training_excludes_the_earlier_steps(now: list[float]) -> None:
    clock = StepTimer(seconds=50.0)
    now[0] += 2
    clock.tick()
    assert (clock.rate(), clock.seconds) == (0.5, 52.0)


def test_evaluations_count_as_training_and_not_as_steps(now: list[float]) -> None:
    clock = StepTimer(seconds=0.0)
    clock.tick()
    now[0] += 1
    with clock.paused():
        now[0] += 9
    assert (clock.rate(), clock.seconds) == (1.0, 10.0)
    clock.tick()
    clock.tick()
    now[0] += 1
    assert clock.rate() == 2.0
