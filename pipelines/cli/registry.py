"""`wikigpt models`, `promote`, `rollback`, `export` and `generate`: the registry from the command line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from components.shared.base.failure import Failure
from components.shared.base.ranges import Form, Range
from components.shared.report.measures import format_measure
from components.shared.tracking.mlflow_variables import check_mlflow_variables
from components.shared.tracking.sqlite_registry import sqlite_registry
from pipelines.cli import options
from pipelines.cli.limits import within
from pipelines.cli.options import HomeFolder, Json, Plan, Store
from pipelines.cli.screen import console, print_json, print_plan, print_to_stderr
from pipelines.cli.trend import TERMINAL, require_picture, show_chart
from pipelines.local.home import existing_home, existing_tracking_uri
from pipelines.local.run import QUIET

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from components.shared.storage.store import Store as OpenStore
    from components.shared.tracking.sqlite_registry import RegistryReader
    from pipelines.registry.models import ModelRow

Model = Annotated[
    str | None, typer.Option("--model", help="The registered model; by default `wikigpt`, or the only one that exists.")
]
Reference = Annotated[str, typer.Argument(metavar="VERSION", help="A number, an alias, or a `models:/` address.")]
_TOKENS = Range(1, 10_000_000)
_TEMPERATURE = Range(0.01, 100, also=0)
_SEED = Range(0, 2**64 - 1)
# MLflow accepts more names, but its model addresses end at `?`, and a name is also part of the path of a lock.
_NAME = Form(
    r"(?=.*[^\s.])[^/:?\x00-\x1f]{1,200}",
    "the name of a registered model, of at most 200 characters, without / : and ?",
)
Reason = Annotated[str, typer.Option(help="Why, for the record.")]


@contextmanager
def registry_of(home: Path) -> Iterator[MlflowClient]:
    """A client of the registry that the environment names, or of the home. MLflow's errors become failures."""
    os.environ.update(QUIET)
    check_mlflow_variables()
    import mlflow

    from components.shared.tracking.run import connect, translate_mlflow_errors

    client = connect(existing_tracking_uri(home))
    # MLflow resolves `models:/` addresses by its global setting only.
    mlflow.set_tracking_uri(client.tracking_uri)
    with translate_mlflow_errors(client):
        yield client


@contextmanager
def reader_of(home: Path) -> Iterator[RegistryReader]:
    """The same registry for a command that only reads it. A database on this machine is read without MLflow."""
    check_mlflow_variables()
    if local := sqlite_registry(existing_tracking_uri(home)):
        yield local
        return
    with registry_of(home) as client:
        yield client


def store_with_locks(home: Path, address: str | None) -> OpenStore | None:
    """Opens the store in which runs lock the models of the registry. Without it, a note on stderr says so.

    The command continues without the lock: a rollback must not wait until object storage is available again.
    """
    from components.shared.storage.store import open_store

    if address is None and "MLFLOW_TRACKING_URI" in os.environ:
        why = "MLFLOW_TRACKING_URI names a registry, but neither --store nor WIKIGPT_STORE names the store of its runs"
    else:
        address = address or str(existing_home(home).store)
        try:
            return open_store(address)
        except Failure as failure:
            why = str(failure)
    typer.echo(
        "The command continues without the lock, so a run that registers at the same time may overwrite its change:"
        f" {why}",
        err=True,
    )
    return None


def models(
    model: Model = None,
    chart: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Draw perplexity, tokens and GPU-seconds by version to a .png or .svg file; `-` prints bars instead.",
        ),
    ] = None,
    home: HomeFolder = options.DEFAULT_HOME,
    as_json: Json = False,
) -> None:
    """List the versions of the registered models, the newest first."""
    from pipelines.registry.models import models as rows_of
    from pipelines.registry.models import refused_champions
    from pipelines.registry.references import model_name

    if chart is not None:
        require_picture(chart)
    if chart == TERMINAL and as_json:
        raise typer.BadParameter("--chart - prints bars and --json prints JSON; leave one of them out")
    with reader_of(home) as client:
        refused = refused_champions(client, model)
        rows = rows_of(client, model, refused)
        if model is not None and not rows:
            model_name(client, model)  # raises a failure that names the existing models
        if chart is not None:
            _chart(client, model, chart)
    for name in dict.fromkeys(row.name for row in rows if row.name in refused):
        typer.echo(f"{name}: {refused[name].reason}", err=True)
    if chart == TERMINAL:
        return
    if as_json:
        print_json(rows)
        return
    _print_models(rows)
    if not rows:
        typer.echo("There is no version yet: train one by `wikigpt run`.", err=True)


def _chart(client: RegistryReader, model: str | None, chart: str) -> None:
    from pipelines.registry.models import trend
    from pipelines.registry.references import model_name

    name = model_name(client, model)
    show_chart(trend(client, name), name, chart)


def _print_models(rows: list[ModelRow]) -> None:
    """Prints each model and its corpus as a heading above its versions, so that a long name has its own line."""
    by_model: dict[tuple[str, str], list[ModelRow]] = {}
    for row in rows:
        by_model.setdefault((row.name, row.corpus), []).append(row)
    screen = console()
    for (name, corpus), versions in by_model.items():
        heading = Text.assemble((name, "bold"), f"  corpus {corpus}" if corpus else "")
        if cell_len(heading.plain) <= screen.width:
            screen.print(heading)
        else:
            screen.print(Text(name, style="bold"), overflow="fold")
            screen.print(Text(f"  corpus {corpus}"), overflow="fold")
        table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
        table.add_column("Version", justify="right")
        table.add_column("Aliases", overflow="fold")
        for measure in ("Word\nppl", "Token\nppl", "Bits/\nbyte"):
            table.add_column(measure, justify="right")
        for row in versions:
            table.add_row(row.version, ", ".join(row.aliases), *_numbers(row))
        screen.print(table)


def _numbers(row: ModelRow) -> list[str]:
    values = (row.word_perplexity, row.token_perplexity, row.bits_per_byte)
    return [
        "–" if value is None else format_measure(value, places) for value, places in zip(values, (2, 2, 4), strict=True)
    ]


def promote(
    reference: Reference,
    reason: Reason = "promoted from the command line",
    model: Model = None,
    to: Annotated[
        str | None,
        typer.Option(callback=within(_NAME), help="Copy the version to this registered model and promote it there."),
    ] = None,
    plan: Plan = False,
    home: HomeFolder = options.DEFAULT_HOME,
    store: Store = None,
) -> None:
    """Make a version the champion, here or as a copy in another registered model."""
    from pipelines.registry import promotion

    if plan:
        with registry_of(home) as client:
            print_plan(promotion.plan_promotion(client, reference, reason=reason, model=model, to=to))
        return
    locks = store_with_locks(home, store)
    with registry_of(home) as client:
        moved = promotion.promote(
            client, reference, reason=reason, model=model, to=to, store=locks, report=print_to_stderr
        )
    replaced = "" if moved.before in (None, moved.version) else f"; it replaces version {moved.before}"
    typer.echo(f"Version {moved.version} of {moved.model} is now the champion{replaced}.")


def rollback(
    reason: Reason = "rolled back from the command line",
    model: Model = None,
    plan: Plan = False,
    home: HomeFolder = options.DEFAULT_HOME,
    store: Store = None,
) -> None:
    """Give the alias champion back to the version that had it before."""
    from pipelines.registry import promotion

    if plan:
        with registry_of(home) as client:
            print_plan(promotion.plan_rollback(client, reason=reason, model=model))
        return
    locks = store_with_locks(home, store)
    with registry_of(home) as client:
        moved = promotion.rollback(client, reason=reason, model=model, store=locks, report=print_to_stderr)
    typer.echo(f"Version {moved.version} of {moved.model} is the champion again; it replaces version {moved.before}.")


def export(
    reference: Reference,
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    model: Model = None,
    home: HomeFolder = options.DEFAULT_HOME,
) -> None:
    """Write a version as a Hugging Face folder, which transformers, vLLM and llama.cpp's converter can load."""
    from pipelines.registry.approval import resolve_served
    from pipelines.registry.export import export as write_folder

    with reader_of(home) as client:
        version = resolve_served(client, reference, model, note=print_to_stderr)
        written = write_folder(client, version, folder)
    typer.echo(f"Version {version.version} of {version.name} is in {written}.")


def generate(
    prompt: Annotated[str, typer.Argument(help="The beginning of the text.")],
    reference: Annotated[
        str, typer.Option("--version", help="A number, an alias, or a `models:/` address.")
    ] = "champion",
    model: Model = None,
    tokens: Annotated[int, typer.Option(callback=within(_TOKENS), help="Maximum number of new tokens.")] = 60,
    temperature: Annotated[
        float, typer.Option(callback=within(_TEMPERATURE), help="0 chooses the most probable token each time.")
    ] = 0.8,
    top_k: Annotated[
        int, typer.Option(callback=within(_TOKENS), help="Sample from this many most probable tokens.")
    ] = 40,
    seed: Annotated[int, typer.Option(callback=within(_SEED), help="The same seed gives the same text.")] = 0,
    home: HomeFolder = options.DEFAULT_HOME,
) -> None:
    """Write text with the champion, or another version."""
    from pipelines.registry.approval import resolve_served
    from pipelines.registry.generation import load_writer, write

    with reader_of(home) as client:
        version = resolve_served(client, reference, model, note=print_to_stderr)
        writer = load_writer(client, version)
    typer.echo(f"{version.name} version {version.version}", err=True)
    typer.echo(write(writer, prompt, max_new_tokens=tokens, temperature=temperature, top_k=top_k, seed=seed))
