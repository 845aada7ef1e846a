"""Numbers of an evaluation: finite ones for JSON and tags, and short ones for people."""

from __future__ import annotations

import math
from typing import Any

# From this magnitude on, a number is printed with an exponent.
_LARGE = 1e7


def finite(value: Any) -> float | None:
    """Converts a number or text to a float; None if the value is not a number or not finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def format_measure(value: float | None, places: int = 2) -> str:
    """A measure for people, in at most a dozen characters."""
    if value is None or math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "infinite"
    return f"{value:.{places}f}" if abs(value) < _LARGE else f"{value:.2e}"
