"""`wikigpt ensemble`: several versions scored together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from components.shared.report.measures import format_measure
from pipelines.cli import options
from pipelines.cli.options import HomeFolder, Json
from pipelines.cli.registry import Model, reader_of
from pipelines.cli.screen import console, print_json

if TYPE_CHECKING:
    from pipelines.registry.ensemble import Ensemble, Measures

_MEASURES = {
    "word_perplexity": ("Word\nppl", 2),
    "token_perplexity": ("Token\nppl", 2),
    "bits_per_byte": ("Bits/\nbyte", 4),
}


def ensemble(
    references: Annotated[
        list[str], typer.Argument(metavar="VERSION", help="Numbers, aliases, or `models:/` addresses.")
    ],
    model: Model = None,
    fit_weights: Annotated[
        bool,
        typer.Option("--fit-weights", help="Weigh the versions as fits the validation split best; by default equally."),
    ] = False,
    home: HomeFolder = options.DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """Score versions together, by the mean of the probabilities that their evaluations kept."""
    from pipelines.registry.ensemble import score_ensemble

    with reader_of(home) as client:
        scored = score_ensemble(client, references, model, fit_weights=fit_weights)
    if as_json:
        print_json(scored)
        return
    _print(scored)


def _print(scored: Ensemble) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("Version")
    table.add_column("Weight", justify="right")
    table.add_column("Split")
    for column, _ in _MEASURES.values():
        table.add_column(column, justify="right")
    for member in scored.members:
        table.add_row(member.version, f"{member.weight:.3f}", "validation", *_numbers(member.validation))
        table.add_row("", "", "test", *_numbers(member.test))
    table.add_row("together", "", "validation", *_numbers(scored.validation), style="bold")
    table.add_row("", "", "test", *_numbers(scored.test), style="bold")
    console().print(table)
    weights = "chosen on validation, so its validation scores are optimistic" if scored.fitted else "equal"
    typer.echo(
        f"{scored.model}, protocol {scored.protocol}, window {scored.window}, stride {scored.stride};"
        f" the weights are {weights}.",
        err=True,
    )


def _numbers(measures: Measures) -> list[str]:
    return [
        "–" if (value := getattr(measures, name)) is None else format_measure(value, places)
        for name, (_, places) in _MEASURES.items()
    ]
