"""Numbers of an evaluation as they are kept and shown: JSON and tags hold finite ones, and people read short ones."""

from __future__ import annotations

import math
from typing import Any

# From here on a number is shown by its power of ten.
_LARGE = 1e7


def finite(value: Any) -> float | None:
    """A number, or a text that is one; None where there is none, or none that is finite."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def format_measure(value: float | None, places: int = 2) -> str:
    """A measure for people, never longer than a dozen signs."""
    if value is None or math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "beyond all numbers"
    return f"{value:.{places}f}" if abs(value) < _LARGE else f"{value:.2e}"
