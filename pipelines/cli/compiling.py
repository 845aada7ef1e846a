"""`wikigpt compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli import options
from pipelines.cli.cluster_options import AllowMutableImage, image_overrides
from pipelines.cli.options import Profile, Sets


def compile_pipeline(
    output: Annotated[Path, typer.Option("--output", "-o", help="The YAML file to write.")],
    profile: Profile = "nightly",
    sets: Sets = None,
    corpus: Annotated[str | None, typer.Option(help="A known name or an address; no folder of this machine.")] = None,
    allow_mutable_image: AllowMutableImage = False,
) -> None:
    """Compile the pipeline to KFP's intermediate representation, the same bytes each time.

    With `cluster.image` set, every task is placed on the cluster: resources, secrets by name, limits. Without it the
    file holds the DAG without placement.
    """
    from pipelines.cluster.compiling import compile_to
    from pipelines.cluster.guards import refuse_folders

    overrides = image_overrides(None, allow_mutable_image)
    settings = options.settings_of(profile, [*(sets or ()), *overrides], corpus)
    refuse_folders(settings)
    compile_to(output, settings)
    placed = (
        f"placed on a cluster, image {settings.cluster.image}"
        if settings.cluster.image
        else "the DAG without placement"
    )
    typer.echo(f"{output}: profile {profile}, {placed}", err=True)
