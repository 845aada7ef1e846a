"""Limits of options. The message about a wrong number names the nearest valid one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from components.shared.base.ranges import Limit, Range

SECONDS = Range(0, 31_536_000)


def within(limit: Limit) -> Callable[[Any], Any]:
    """The callback of an option that checks its value against a limit, if the option is given."""

    def check(value: Any) -> Any:
        if value is not None and (problem := limit.problem(value)):
            raise typer.BadParameter(problem)
        return value

    return check
