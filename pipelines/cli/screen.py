"""Output of the commands: text for people, within the width of the terminal, and JSON for programs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

from components.shared.base.failure import Failure
from components.shared.base.json_values import json_value
from pipelines.planned_changes import PlannedChange, descriptions

_NARROWEST, _WIDEST = 20, 500


def correct_widths() -> None:
    """Removes or limits impossible widths in the environment, by which typer and rich would crash or fill memory."""
    for name in ("COLUMNS", "LINES", "TERMINAL_WIDTH"):
        value = os.environ.get(name)
        if value is None:
            continue
        if not re.fullmatch("[0-9]{1,9}", value) or int(value) == 0:
            del os.environ[name]
        elif name != "LINES":
            os.environ[name] = str(min(max(int(value), _NARROWEST), _WIDEST))


def console(*, stderr: bool = False) -> Console:
    """A console without markup: `[red]`, `:bug:` and numbers are printed as they are.

    Only a `rich.text.Text` with a style has a colour.
    """
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    made.width = min(max(made.width, _NARROWEST), _WIDEST)
    return made


def print_json(document: Any) -> None:
    """Prints a document as strict JSON: an infinite number and NaN become null."""
    typer.echo(json.dumps(json_value(document), indent=1, allow_nan=False))


def print_plan(changes: Iterable[PlannedChange]) -> None:
    """Prints the changes that a command would apply, one per line."""
    for line in descriptions(changes) or ["There is nothing to change."]:
        typer.echo(line)


def print_to_stderr(line: str) -> None:
    """Prints a line that is not the result of the command."""
    typer.echo(line, err=True)


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Prints a failure that must not end the command, after a sentence about its consequence."""
    try:
        yield
    except Failure as failure:
        print_to_stderr(f"{what}: {failure}")
