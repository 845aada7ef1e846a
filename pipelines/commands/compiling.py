"""`wikigpt compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.options import Corpus, Profile, Sets


def add_commands(app: typer.Typer) -> None:
    """Registers the commands of this module."""
    app.command("compile")(compile_pipeline)


def compile_pipeline(
    output: Annotated[Path, typer.Option("--output", "-o", help="The YAML file to write.")],
    profile: Profile = "nightly",
    sets: Sets = None,
    corpus: Corpus = None,
    allow_mutable_image: Annotated[
        bool, typer.Option("--allow-mutable-image", help="Accept an image by tag, whose bytes may change under a run.")
    ] = False,
) -> None:
    """Compile the pipeline to the KFP intermediate representation, the same bytes each time."""
    from pipelines.compiling import compile_to

    compile_to(output, profile, sets or (), corpus, allow_mutable_image=allow_mutable_image)
    typer.echo(f"{output}: {output.stat().st_size:,} bytes", err=True)
