"""`wikigpt run` and `wikigpt check`."""

from __future__ import annotations

from typing import Annotated

import typer

from components.shared.base.failure import ExitCode, Failure
from components.shared.signing.reference import check_signing_key
from pipelines.cli import options
from pipelines.cli.options import Corpus, Force, HomeFolder, Json, Profile, Sets, Store
from pipelines.cli.screen import console, print_json, print_to_stderr


def run(
    profile: Profile = "quick",
    corpus: Corpus = None,
    sets: Sets = None,
    home: HomeFolder = options.DEFAULT_HOME,
    store: Store = None,
    force: Force = False,
    runner: Annotated[str, typer.Option(help="`subprocess`, or `docker` in the built image.")] = "subprocess",
    image: Annotated[str | None, typer.Option(help="The image of `--runner docker`.")] = None,
    as_json: Json = False,
) -> None:
    """Run the whole pipeline on this machine.

    Earlier results are reused: if a version has the same reuse key, the run ends after its first step; a model that
    exists is only evaluated; training resumes from a checkpoint.
    """
    from pipelines.config.extras import require_steps
    from pipelines.local.log_lines import log_sentence
    from pipelines.local.numerics import pin_numerics
    from pipelines.local.progress import ProgressView
    from pipelines.local.run import execute
    from pipelines.local.runners import docker_client, runner_plan
    from pipelines.local.summary import document, needs_model_option, print_summary

    require_steps()
    asked = options.settings_of(profile, sets, corpus)
    check_signing_key(asked.register.signing, asked.register.signing_key)
    opened, address = options.home_and_store(home, store)
    settings = pin_numerics(asked, opened)
    if force:
        settings = settings.with_values("download", force=True)
    plan = runner_plan(runner, image, opened, address, settings)
    if plan["runner"] == "docker":
        docker_client()  # fails before a run is started
    errors = console(stderr=True)
    with ProgressView(errors) as view:
        result = execute(settings, opened, address, view, plan)
    summary = document(result, settings, opened)
    if as_json:
        print_json(summary)
    elif result.exit_code == ExitCode.OK:
        print_summary(summary, console(), model_option=needs_model_option(summary, opened))
    if result.interrupted:
        said = f" {result.failure['what']}." if result.failure else ""
        errors.print(f"Interrupted.{said} The same command resumes it.")
        raise typer.Exit(int(result.exit_code))
    if result.failure is not None:
        print_to_stderr(log_sentence(result.log))
        raise Failure.from_dict(result.failure)


def check(
    profile: Profile = "quick",
    corpus: Corpus = None,
    sets: Sets = None,
    home: HomeFolder = options.DEFAULT_HOME,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Check the settings, the corpus and the environment of a run, without running it."""
    from pipelines.local.check import check_run
    from pipelines.local.doctor import exit_code, print_findings

    settings = options.settings_of(profile, sets, corpus)
    opened, address = options.home_and_store(home, store)
    findings = check_run(settings, opened, address)
    if as_json:
        print_json({"ok": not exit_code(findings), "findings": findings})
    else:
        print_findings(findings, console())
    raise typer.Exit(exit_code(findings))
