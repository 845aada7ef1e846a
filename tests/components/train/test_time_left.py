"""The time left is a number that a person can plan by."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from components.train.time_left import JUMP, TimeLeft

# The rows of a small training on two cores that also ran tests, so that its speed changed tenfold: seconds, step, and
# tokens per second or null for an evaluation.
RECORDED = json.loads((Path(__file__).with_name("recorded_rows.json")).read_text(encoding="utf-8"))
TOKENS = 256  # a step


def row(step: int, speed: float | None) -> dict[str, Any]:
    counted = {"step": step, "tokens": step * TOKENS}
    return counted | ({"validation_loss": 5.0} if speed is None else {"tokens_per_second": speed})


def estimates(rows: list[tuple[float, int, float | None]], steps: int, evaluated: int = 0) -> list[tuple[float, float]]:
    """The seconds and the estimate of each row that has one."""
    left = TimeLeft(evaluated)
    found = [(now, left.update(row(step, speed), steps, now)) for now, step, speed in rows]
    return [(now, estimate) for now, estimate in found if estimate is not None]


def largest_jump(found: list[tuple[float, float]]) -> float:
    """The largest factor between an estimate and the one before it, from which the time since then may be taken."""
    return max(max(b / a, (a - (now - before)) / max(b, 1e-9)) for (before, a), (now, b) in pairwise(found))


def training(seconds: list[float], every: int = 0, pause: float = 0.0, log_every: int = 10) -> list[tuple]:
    """The rows of a training, of whose steps each interval takes some seconds, and which evaluates every few steps."""
    rows: list[tuple[float, int, float | None]] = [(10.0, 1, TOKENS / 10)]  # the first step compiles
    now = 10.0
    for interval, each in enumerate(seconds, 1):
        now, step = now + each * log_every, interval * log_every
        rows.append((now, step, TOKENS / each))
        if every and step % every == 0:
            now += pause
            rows.append((now, step, None))
    return rows


def test_no_estimate_of_a_recorded_training_jumps() -> None:
    steps = RECORDED[-1][1]
    found = estimates(RECORDED, steps)
    assert len(found) >= len(RECORDED) - 1
    assert largest_jump(found) <= JUMP + 1e-9
    # An estimate from the newest speed alone does jump, so this recording can tell.
    naive = [(now, (steps - step) * TOKENS / speed) for now, step, speed in RECORDED[1:-2] if speed]
    assert largest_jump(naive) > JUMP


def test_estimates_of_a_recorded_training_are_near_the_truth() -> None:
    end, steps = RECORDED[-1][0], RECORDED[-1][1]
    half = [(now, left) for now, left in estimates(RECORDED, steps) if end / 4 < now < end * 3 / 4]
    assert half
    assert all(1 / 1.6 < left / (end - now) < 1.6 for now, left in half)


@pytest.mark.parametrize("slow", [3, 8, 100])
def test_one_slow_interval_changes_the_estimate_by_a_quarter_at_most(slow: int) -> None:
    found = estimates(training([0.1] * 20 + [0.1 * slow] + [0.1] * 20), 1000)
    assert largest_jump(found) <= JUMP
    assert max(left for _, left in found) == found[0][1], "no estimate is longer than that of the whole training"


def test_a_lasting_change_of_speed_is_followed() -> None:
    rows = training([0.1] * 20 + [0.4] * 20)
    found = estimates(rows, 1000)
    assert largest_jump(found) <= JUMP
    assert found[-1][1] == pytest.approx((1000 - 400) * 0.4, rel=0.05)


def test_an_evaluation_counts_as_a_pause_and_not_as_training_speed() -> None:
    without = estimates(training([0.1] * 40), 1000)
    assert without[-1][1] == pytest.approx(600 * 0.1)
    rows = training([0.1] * 40, every=100, pause=5.0)
    found = estimates(rows, 1000)
    assert found[-1][1] == pytest.approx(600 * 0.1 + 6 * 5.0)
    assert largest_jump(found) <= JUMP


def test_an_evaluation_between_two_rows_of_the_loss_is_measured_too() -> None:
    rows = [*training([0.1] * 2), (10 + 25 * 0.1 + 0.2, 25, None), (10 + 30 * 0.1 + 0.2, 30, TOKENS / 0.1)]
    assert estimates(rows, 50)[-1][1] == pytest.approx(20 * 0.1 + 1 * 0.2)


def test_a_resumed_training_counts_its_evaluations_from_the_last_one() -> None:
    rows = [(0.0, 350, 10.0), (1.0, 360, TOKENS / 0.1), (5.0, 400, TOKENS / 0.1), (7.0, 400, None)]
    assert estimates(rows, 600, evaluated=300)[-1][1] == pytest.approx(200 * 0.1 + 2 * 2.0)


def test_the_first_row_of_a_process_gives_no_estimate_since_it_includes_compilation() -> None:
    assert TimeLeft().update(row(1, 5.0), 100, 10.0) is None
    assert TimeLeft().update(row(350, 5.0), 400, 10.0) is None
