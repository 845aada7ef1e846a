"""`wikigpt mirror`."""

from __future__ import annotations

import typer

from pipelines.cli import options
from pipelines.cli.options import Corpus, HomeFolder, Json, Plan, Profile, Sets, Store
from pipelines.cli.screen import print_json, print_plan, print_to_stderr


def mirror(
    profile: Profile = "nightly",
    sets: Sets = None,
    corpus: Corpus = None,
    home: HomeFolder = options.DEFAULT_HOME,
    store: Store = None,
    plan: Plan = False,
    as_json: Json = False,
) -> None:
    """Copy what a profile downloads or reads from this machine into the store, for a cluster that reaches neither.

    This is the corpus, the tokenizer and the pretrained weights at their pinned revisions. Run it where the Hub can be
    reached, with the store of the cluster: `wikigpt mirror --profile finetune --store s3://bucket/prefix`.
    """
    from components.shared.base.events import notes_on_stderr
    from components.shared.storage.store import open_store
    from pipelines.cluster.mirror import plan_mirror
    from pipelines.planned_changes import apply_changes

    settings = options.settings_of(profile, sets, corpus)
    _, address = options.home_and_store(home, store)
    planned = plan_mirror(open_store(address), settings)
    if plan:
        print_plan(planned.changes)
        return
    with notes_on_stderr():
        apply_changes(planned.changes, print_to_stderr)
    if as_json:
        print_json(planned.mirrored)
        return
    for each in planned.mirrored:
        to_set = " ".join(f"--set {setting}" for setting in each.settings)
        use = f"use it by {to_set}" if to_set else "every run with this store finds it there"
        typer.echo(f"{each.what}: {each.size / 1e6:.1f} MB at {each.address}; {use}")
    if not planned.mirrored:
        typer.echo("There is nothing to copy: the profile uses no files from elsewhere.")
