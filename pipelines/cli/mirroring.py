"""`wikigpt mirror`."""

from __future__ import annotations

import typer

from pipelines.cli import options
from pipelines.cli.options import Corpus, HomeFolder, Json, Profile, Sets, Store
from pipelines.cli.screen import print_json


def add_commands(app: typer.Typer) -> None:
    """Registers the command of this module."""
    app.command()(mirror)


def mirror(
    profile: Profile = "nightly",
    sets: Sets = None,
    corpus: Corpus = None,
    home: HomeFolder = options.DEFAULT_HOME,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Bring what a profile takes from the Hub or from this machine into the store, for a cluster that sees neither.

    Corpus, tokenizer and pretrained weights at their pinned revisions. Run it where the Hub can be reached, with the
    store of the cluster: `wikigpt mirror --profile finetune --store s3://bucket/prefix`.
    """
    from components.shared.base.events import notes_on_stderr
    from components.shared.storage.store import open_store
    from pipelines.cluster.mirror import mirror as bring

    settings = options.settings_of(profile, sets, corpus)
    _, address = options.home_and_store(home, store)
    with notes_on_stderr():
        mirrored = bring(open_store(address), settings)
    if as_json:
        print_json(mirrored)
        return
    for each in mirrored:
        to_set = " ".join(f"--set {setting}" for setting in each.settings)
        use = f"use it by {to_set}" if to_set else "found there by every run with this store"
        typer.echo(f"{each.what}: {each.size / 1e6:.1f} MB at {each.address}; {use}")
    if not mirrored:
        typer.echo("Nothing to bring: the profile takes nothing from elsewhere.")
