"""`wikigpt history`: who moved the alias champion, when, from where to where and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.table import Table

from pipelines.cli import options
from pipelines.cli.options import HomeFolder, Json
from pipelines.cli.registry import Model, reader_of
from pipelines.cli.screen import console, print_json

if TYPE_CHECKING:
    from pipelines.registry.history import HistoryRow

_HOW = {"gate": "the gate", "command": "", "rollout": "the rollout", "click": "a click in MLflow"}


def history(model: Model = None, home: HomeFolder = options.DEFAULT_HOME, as_json: Json = False) -> None:
    """List the moves of the alias champion, the newest first; a click has the time when it was noticed."""
    from pipelines.registry.approval import refused_champion
    from pipelines.registry.history import history as rows_of
    from pipelines.registry.references import model_name

    with reader_of(home) as client:
        name = model_name(client, model)
        rows, refused = rows_of(client, name), refused_champion(client, name)
    if refused:
        typer.echo(refused.reason, err=True)
    if as_json:
        print_json(rows)
        return
    _print(rows)
    if not rows:
        typer.echo(f"The alias champion of {name} has not been moved since moves are recorded.", err=True)


def _print(rows: list[HistoryRow]) -> None:
    if not rows:
        return
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("Time (UTC)", overflow="fold")
    for end in ("From", "To"):
        table.add_column(end, justify="right")
    table.add_column("By", overflow="fold")
    table.add_column("Reason", overflow="fold")
    for row in rows:
        when = "not recorded yet" if row.number is None else row.at.replace("T", " ").removesuffix("Z")
        table.add_row(when, row.before or "–", row.version or "–", _by(row), row.reason)
    console().print(table)


def _by(row: HistoryRow) -> str:
    return " by ".join(filter(None, (_HOW[row.how], row.by))) or "unknown"
