"""`wikigpt sweep`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import Range
from components.shared.base.redact import redact
from pipelines.cli import options
from pipelines.cli.cluster_options import (
    AllowMutableImage,
    Endpoint,
    Image,
    Namespace,
    Timeout,
    Wait,
    image_overrides,
    open_cluster,
)
from pipelines.cli.limits import within
from pipelines.cli.options import Corpus, HomeFolder, Json, Profile, Store
from pipelines.cli.screen import console, print_json, print_to_stderr
from pipelines.steps import SWEEP

if TYPE_CHECKING:
    from components.sweep.run import Sweep
    from components.sweep.trials import Trial
    from pipelines.config.settings import RunSettings
    from pipelines.local.sweep import SweepResult

_TRIALS = Range(1, 10_000)
_AT_ONCE = Range(1, 1_000)
_SEED = Range(0, 2**31 - 1)


def sweep(
    profile: Profile = "quick",
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="K=V",
            help="A list varies a setting, as in `train.learning_rate=[4e-3, 8e-3]`; another value replaces it in all"
            " trials. May be repeated.",
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(callback=within(_TRIALS), help="Number of trials. By default all of a grid.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="`grid`, `random`, or `optuna`; these two search between two numbers.")
    ] = "grid",
    seed: Annotated[int, typer.Option(callback=within(_SEED), help="Seed of the sampler.")] = 0,
    corpus: Corpus = None,
    home: HomeFolder = options.DEFAULT_HOME,
    store: Store = None,
    record: Annotated[Path | None, typer.Option(help="Append the trials to this file of JSON lines.")] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Run the trials on the cluster.")] = False,
    at_once: Annotated[
        int, typer.Option(callback=within(_AT_ONCE), help="Trials that the cluster runs side by side.")
    ] = 4,
    image: Image = None,
    allow_mutable_image: AllowMutableImage = False,
    wait: Wait = False,
    timeout: Timeout = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    as_json: Json = False,
) -> None:
    """Train with several settings, compare them on validation, and print a table. Nothing is registered.

    The trials are runs below one run of MLflow. Here they run one after the other, on a cluster side by side.
    """
    from components.sweep.run import Sweep
    from components.sweep.space import grid
    from components.sweep.suggest import require_sampler
    from components.sweep.table import markdown
    from pipelines.cli.following import follow
    from pipelines.config.sweep import split_space

    require_sampler(by)
    fixed_for_cluster = image_overrides(image, allow_mutable_image) if submit else []
    space, fixed = split_space(profile, [*(sets or ()), *fixed_for_cluster])
    if trials is None:
        if by != "grid":
            raise Failure(
                f"The sampler {by} needs a number of trials",
                where="--trials",
                remedy="give one, as in --trials 8",
                exit_code=ExitCode.USAGE,
            )
        trials = len(grid(space))
    plan = Sweep(space, by, trials, min(at_once, trials) if submit else 1, seed)
    request = (profile, fixed, corpus)
    if submit:
        from pipelines.cluster import submission
        from pipelines.cluster.sweep import sweep_package

        sent = sweep_package(plan, *request)
        cluster = open_cluster(endpoint, namespace)
        submitted = submission.submit(cluster, sent, SWEEP)
        if as_json:
            print_json(submitted)
        else:
            typer.echo(submitted.run_id)
        typer.echo(f"{submitted.run_name}: {submitted.address}", err=True)
        if wait:
            follow(cluster, submitted.run_id, timeout)
        return
    result = _run(plan, request, (home, store), record)
    if as_json:
        print_json(_document(result, profile, fixed))
    else:
        typer.echo(markdown(result.trials), nl=False)
    _say_what_follows(result, *request)
    if result.exit_code != ExitCode.OK:
        raise typer.Exit(int(result.exit_code))


def _run(
    plan: Sweep, request: tuple[str, list[str], str | None], places: tuple[Path, str | None], record: Path | None
) -> SweepResult:
    from pipelines.config.extras import require_steps
    from pipelines.local.numerics import pin_numerics
    from pipelines.local.progress import ProgressView
    from pipelines.local.sweep import append_records, run_sweep

    require_steps()
    profile, fixed, corpus = request
    opened, address = options.home_and_store(*places)
    errors = console(stderr=True)

    def settings_of(trial: Trial) -> RunSettings:
        return pin_numerics(options.settings_of(profile, [*fixed, *trial.overrides], corpus), opened)

    def new_view(title: str) -> ProgressView:
        print_to_stderr(title)
        return ProgressView(errors)

    options.settings_of(profile, fixed, corpus)  # a wrong corpus ends the command before a sweep is made
    result = run_sweep(plan, settings_of, opened, address, new_view)
    if record:
        append_records(record, result, settings_of, _command(plan, profile, fixed))
    return result


def _command(plan: Sweep, profile: str, fixed: list[str]) -> str:
    """The command that repeats a sweep, without the places of this machine."""
    sets = [word for each in (*fixed, *(each.text for each in plan.space)) for word in ("--set", redact(each))]
    drawn = ["--by", plan.sampler, "--trials", str(plan.trials), "--seed", str(plan.seed)]
    return shlex.join(["wikigpt", "sweep", "--profile", profile, *sets, *(drawn if plan.sampler != "grid" else [])])


def _say_what_follows(result: SweepResult, profile: str, fixed: list[str], corpus: str | None) -> None:
    from components.sweep.table import ranked

    if result.interrupted:
        print_to_stderr("Interrupted. The same command goes on: models of trials that ended are reused.")
        return
    for number, failure in result.failures.items():
        print_to_stderr(f"Trial {number} failed: {Failure.from_dict(failure)}")
    best = next((trial for trial in ranked(result.trials) if trial.word_perplexity is not None), None)
    if best is not None:
        where = f" --corpus {shlex.quote(corpus)}" if corpus else ""
        sets = "".join(f" --set {shlex.quote(override)}" for override in [*fixed, *best.overrides])
        print_to_stderr("This evaluates and registers the best model, which is reused:")
        print_to_stderr(redact(f"wikigpt run --profile {profile}{where}{sets}"))


def _document(result: SweepResult, profile: str, fixed: list[str]) -> dict[str, Any]:
    from dataclasses import asdict

    from components.sweep.table import ranked

    return {
        "run": result.run,
        "mlflow_run": result.mlflow_run,
        "profile": profile,
        "overrides": [redact(override) for override in fixed],
        "trials": [asdict(trial) for trial in ranked(result.trials)],
    }
