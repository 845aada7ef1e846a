"""What the commands print: text for people as it is, in the width that there is, and JSON for programs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console

from components.shared.base.json_values import json_value
from pipelines.stages import Stage, descriptions

_NARROWEST, _WIDEST = 20, 500


def correct_widths() -> None:
    """Takes a width that no terminal has out of the environment: typer and rich would end by it, or fill memory."""
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        value = os.environ.get(name)
        if value is None:
            continue
        if not re.fullmatch("[0-9]{1,9}", value) or int(value) == 0:
            del os.environ[name]
        elif name != "LINES":
            os.environ[name] = str(min(max(int(value), _NARROWEST), _WIDEST))


def console(*, stderr: bool = False) -> Console:
    """A console that shows text as it is: `[red]` is no colour and `:bug:` no picture, and numbers have none either.

    What has a colour is a `rich.text.Text` with a style.
    """
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    made.width = min(max(made.width, _NARROWEST), _WIDEST)
    return made


def print_json(document: Any) -> None:
    """Prints a document as JSON that every parser reads; an infinite number or NaN is null."""
    typer.echo(json.dumps(json_value(document), indent=1, allow_nan=False))


def print_plan(stages: Iterable[Stage]) -> None:
    """Prints the stages that a command would apply, one a line."""
    for line in descriptions(stages) or ["There is nothing to change."]:
        typer.echo(line)
