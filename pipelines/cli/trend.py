"""The trend over versions of `wikigpt models --chart`: a picture, or bars in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from rich.table import Table

from components.shared.base.failure import ExitCode, Failure
from components.shared.report.measures import format_measure
from components.shared.storage.files import write_atomically
from components.shared.tracking.trend import TrendPoint
from pipelines.cli.screen import console
from pipelines.config.paths import absolute

TERMINAL = "-"
_ENDINGS = (".png", ".svg")
_WIDTH = 30  # characters of the longest bar


def require_picture(chart: str) -> None:
    """Checks the name of the file before anything is read.

    Raises:
        Failure: it ends neither in .png nor in .svg, or its folder does not exist.
    """
    if chart == TERMINAL:
        return
    path = absolute(chart, "--chart")
    if path.suffix.lower() not in _ENDINGS:
        raise _wrong(
            "A chart is a PNG or an SVG", f"--chart {chart}", "name a .png or .svg file, or - for the terminal"
        )
    if not path.parent.is_dir():
        raise _wrong("The folder of the chart does not exist", str(path.parent), "create it, or name another file")


def show_chart(points: Sequence[TrendPoint], model: str, chart: str) -> None:
    """Writes the picture, or prints the bars.

    Args:
        points: the versions, the oldest first.
        model: the name of the registered model.
        chart: the file, or `TERMINAL`.

    Raises:
        Failure: no version has a score, or the file cannot be written.
    """
    if not points:
        raise _wrong(f"No version of {model} has a score", "--chart", "evaluate one by `wikigpt run`, then try again")
    if chart == TERMINAL:
        _print_bars(points)
        return
    from components.shared.report.trend_chart import trend_chart

    path = absolute(chart, "--chart")
    write_atomically(path, trend_chart(points, model, "svg" if path.suffix.lower() == ".svg" else "png"))
    typer.echo(f"The trend over {len(points)} versions of {model} is in {path}.", err=True)


def _print_bars(points: Sequence[TrendPoint]) -> None:
    words = any(point.word_perplexity is not None for point in points)
    most = max(point.measure or 0 for point in points)
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("Version", justify="right")
    table.add_column("Word\nppl" if words else "Bits/\nbyte", justify="right")
    table.add_column("on validation", overflow="fold")
    for name in ("Tokens", "GPU-\nseconds"):
        table.add_column(name, justify="right")
    for point in points:
        value = point.measure or 0
        bar = "█" * max(1, round(_WIDTH * value / most)) if most else ""
        table.add_row(
            str(point.version),
            format_measure(value, 2 if words else 4),
            f"{bar}{' champion' if point.is_champion else ''}",
            *("–" if number is None else f"{number:,.0f}" for number in (point.tokens, point.gpu_seconds)),
        )
    console().print(table)


def _wrong(what: str, where: str, remedy: str) -> Failure:
    return Failure(what, where=where, remedy=remedy, exit_code=ExitCode.USAGE)
