"""`wikigpt gc` and `wikigpt reproduce`."""

from __future__ import annotations

from typing import Annotated

import typer

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import Range
from components.shared.base.redact import redact
from pipelines.cli import options
from pipelines.cli.limits import within
from pipelines.cli.options import HomeFolder, Store
from pipelines.cli.registry import Model, Reference, registry_of
from pipelines.cli.screen import console, print_plan, print_to_stderr

_DAYS = Range(0, 36_500)


def gc(
    plan: Annotated[
        bool, typer.Option("--plan/--apply", help="Print what would be removed (the default), or remove it.")
    ] = True,
    days: Annotated[
        float, typer.Option(callback=within(_DAYS), help="Keep what is younger, even if nothing needs it.")
    ] = 7.0,
    home: HomeFolder = options.DEFAULT_HOME,
    store: Store = None,
) -> None:
    """Remove what no version or alias needs: checkpoints, blobs, runs and their folders. Without --apply, print it."""
    from components.shared.storage.store import open_store
    from pipelines.local.run_folders import plan_served_folders, plan_step_folders
    from pipelines.planned_changes import apply_changes
    from pipelines.registry.gc import DAY, plan_gc, versioning_note

    with registry_of(home) as client:
        opened, address = options.home_and_store(home, store)
        opened_store = open_store(address)
        typer.echo(f"Store {redact(address)}, registry {redact(client.tracking_uri)}", err=True)
        garbage = plan_gc(opened_store, client, keep_for=days * DAY)
        folders = [*plan_step_folders(opened, keep_for=days * DAY), *plan_served_folders(opened, keep_for=days * DAY)]
        changes = [*garbage.removals, *folders]
        notes = garbage.notes
        if plan:
            print_plan(changes)
            counted = changes
        else:
            execution = apply_changes(changes, typer.echo)
            counted = list(execution.applied)
            notes = (*notes, *execution.refused, *versioning_note(opened_store))
    for note in notes:
        typer.echo(note)
    if changes:
        size = sum(change.size for change in counted) / (1 << 20)
        done = "To be removed by --apply" if plan else "Removed"
        typer.echo(f"{done}: {len(counted)} things of {size:.1f} MiB.")


def reproduce(
    reference: Reference, model: Model = None, home: HomeFolder = options.DEFAULT_HOME, store: Store = None
) -> None:
    """Train a version again from its lineage and compare the weights, bit for bit. The registry is only read."""
    import shutil

    from components.shared.storage.manifest import read_manifest
    from components.shared.storage.store import open_store
    from pipelines.config.extras import require_steps
    from pipelines.config.settings import compose
    from pipelines.local.log_lines import log_sentence
    from pipelines.local.progress import ProgressView
    from pipelines.local.reproduction import check_reproducible, compare, copy_inputs, lineage_of, reproduction_home
    from pipelines.local.run import execute
    from pipelines.local.run_folders import artifact
    from pipelines.registry.references import resolve
    from pipelines.registry.verification import require_verified

    require_steps()
    opened, address = options.home_and_store(home, store)
    with registry_of(home) as client:
        version = resolve(client, reference, model)
        require_verified(client, version)
        lineage = lineage_of(client, version)
        check_reproducible(client, lineage)
        registry_uri = client.tracking_uri
    own = reproduction_home(opened, lineage)
    inputs = copy_inputs(open_store(address), own, lineage, registry_uri)
    settings = compose(inputs, name=f"reproduce {lineage.version}").with_values("download", force=False)
    with ProgressView(console(stderr=True)) as view:
        result = execute(
            settings, own, str(own.store), view, {"runner": "subprocess", "until": "train", "reproduction": True}
        )
    if result.failure is not None:
        print_to_stderr(log_sentence(result.log))
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
