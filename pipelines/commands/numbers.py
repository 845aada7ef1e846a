"""Numbers on the command line: each has its range, and the nearest valid number is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from components.shared.ranges import Range

SECONDS = Range(0, 31_536_000)


def within(limit: Range) -> Callable[[Any], Any]:
    """The callback of an option whose number must be in a range; nothing given is nothing checked."""

    def check(value: Any) -> Any:
        if value is not None and (problem := limit.problem(value)):
            raise typer.BadParameter(problem)
        return value

    return check
