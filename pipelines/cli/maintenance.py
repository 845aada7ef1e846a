"""`wikigpt gc` and `wikigpt reproduce`."""

from __future__ import annotations

import re
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import Range
from components.shared.base.redact import redact
from pipelines.cli import options
from pipelines.cli.limits import within
from pipelines.cli.options import HomeFolder, Store
from pipelines.cli.registry import Model, Reference, registry_of
from pipelines.cli.screen import console

_MANY = 20
_DAYS = Range(0, 36_500)
_DIGEST = re.compile(r"([0-9a-f]{12})[0-9a-f]{20,}")


def add_commands(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    app.command()(gc)
    app.command()(reproduce)


def gc(
    apply: Annotated[
        bool, typer.Option("--apply", help="Remove what is listed. Without it nothing is removed.")
    ] = False,
    days: Annotated[
        float, typer.Option(callback=within(_DAYS), help="Keep what is younger, also where nothing needs it.")
    ] = 7.0,
    home: HomeFolder = options.DEFAULT_HOME,
    store: Store = None,
) -> None:
    """List what no version or alias needs: checkpoints, blobs, runs and their folders; remove it with --apply."""
    from components.shared.storage.store import open_store
    from pipelines.local.run_folders import old_step_folders, remove_steps
    from pipelines.registry.gc import DAY
    from pipelines.registry.gc import gc as collect

    with registry_of(home) as client:
        opened, address = options.home_and_store(home, store)
        waste = collect(open_store(address), client, apply=apply, keep_for=days * DAY)
        typer.echo(f"Store {address}, registry {redact(client.tracking_uri)}", err=True)
    folders = old_step_folders(opened, keep_for=days * DAY)
    if apply:
        remove_steps(folders)
    rows: list[tuple[str, str, int, str]] = [(gone.kind, gone.name, gone.size, gone.reason) for gone in waste.removals]
    rows += [("steps of a run", str(folder.path), folder.size, "its run is over, and it is old") for folder in folders]
    _print_waste(rows, waste.notes, removed=apply)


def reproduce(
    reference: Reference, model: Model = None, home: HomeFolder = options.DEFAULT_HOME, store: Store = None
) -> None:
    """Train a version again from its lineage and compare the weights, bit for bit; the registry stays as it is."""
    import shutil

    from components.shared.storage.manifest import read_manifest
    from components.shared.storage.store import open_store
    from pipelines.config.settings import compose
    from pipelines.local.progress import ProgressView
    from pipelines.local.reproduction import check_reproducible, compare, copy_inputs, lineage_of, reproduction_home
    from pipelines.local.run import execute
    from pipelines.local.run_folders import artifact
    from pipelines.registry.references import resolve

    opened, address = options.home_and_store(home, store)
    with registry_of(home) as client:
        lineage = lineage_of(client, resolve(client, reference, model))
        check_reproducible(client, lineage)
    own = reproduction_home(opened, lineage)
    lent = copy_inputs(open_store(address), own, lineage)
    settings = compose(lent, name=f"reproduce {lineage.version}").with_values("download", force=False)
    with ProgressView(console(stderr=True)) as view:
        result = execute(settings, own, str(own.store), view, {"runner": "subprocess", "reproduction": True})
    if result.failure is not None:
        raise Failure.from_dict(result.failure)
    if result.exit_code:
        raise typer.Exit(int(result.exit_code))
    made = read_manifest(artifact(own, result.run, "train", "model"), "model")
    shutil.rmtree(own.root)
    comparison = compare(lineage, made)
    if not comparison.identical:
        raise Failure(
            comparison.sentence,
            where=f"models:/{lineage.model}/{lineage.version}",
            remedy="compare where both ran: processor, device and driver",
            exit_code=ExitCode.FAILED,
        )
    typer.echo(comparison.sentence)


def _print_waste(rows: list[tuple[str, str, int, str]], notes: tuple[str, ...], *, removed: bool) -> None:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("Bytes", justify="right")
    table.add_column("What and why", overflow="fold")
    for kind, name, size, reason in rows[:_MANY]:
        table.add_row(f"{size:,}", Text.assemble(kind, " ", (_DIGEST.sub(r"\1…", name), "bold"), f": {reason}"))
    if len(rows) > _MANY:
        table.add_row("…", f"{len(rows) - _MANY} more")
    screen = console()
    if rows:
        screen.print(table)
    for note in notes:
        screen.print(note)
    total = sum(size for _, _, size, _ in rows)
    said = "Removed" if removed else "To be removed by --apply"
    screen.print(f"{said}: {len(rows)} things, {total / (1 << 20):.1f} MiB." if rows else "Nothing to remove.")
