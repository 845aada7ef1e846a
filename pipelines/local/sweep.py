"""Runs the trials of a sweep on this machine, one after the other, as runs up to the training."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import ExitCode
from components.shared.model.hardware import cores_granted, cpu_model
from components.shared.runtime.liveness import end_heartbeat, heartbeat
from components.shared.storage.store import open_store
from components.shared.tracking.run import Tracking, translate_mlflow_errors
from components.sweep.run import advance, record
from components.sweep.trials import Trial, close_trials, read_trials
from components.train.settings import TrainSettings
from pipelines.local.home import Home, tracking_uri
from pipelines.local.run import Result, execute

if TYPE_CHECKING:
    from components.sweep.run import Sweep
    from pipelines.config.settings import RunSettings
    from pipelines.local.progress import ProgressView


@dataclass(frozen=True)
class SweepResult:
    """The end of a sweep.

    Attributes:
        run: the id of its run.
        mlflow_run: its run in MLflow.
        trials: its trials.
        interrupted: whether the command received a signal to stop.
        exit_code: the exit code of the command.
        failures: the failure of each trial that has one, by the number of the trial.
    """

    run: str
    mlflow_run: str
    trials: list[Trial]
    interrupted: bool
    exit_code: ExitCode
    failures: dict[int, dict[str, Any]]


def run_sweep(
    sweep: Sweep,
    settings_of_trial: Callable[[Trial], RunSettings],
    home: Home,
    store_address: str,
    new_view: Callable[[str], ProgressView],
) -> SweepResult:
    """Runs a sweep until all its trials have ended or it is interrupted.

    A trial that fails does not end the sweep, because some settings cannot be trained. Models are reused by content, so
    the same command after an interruption trains only what is missing.

    Args:
        sweep: what is searched; one trial runs at a time.
        settings_of_trial: the settings of a trial, with resolved numerics.
        home, store_address: the home and the store of the trials.
        new_view: opens the view of the progress of a trial, given a title.
    """
    run = home.new_run().name
    store = open_store(store_address)
    tracking = Tracking.open(run, uri=tracking_uri(home), patience=0)
    failures: dict[int, dict[str, Any]] = {}
    stopped: Result | None = None
    with translate_mlflow_errors(tracking.client), heartbeat(store, run):
        for round_ in range(sweep.rounds):
            for trial in advance(tracking, store, sweep, run, round_):
                title = f"Trial {trial.number} of {sweep.trials}: {', '.join(trial.overrides)}"
                with new_view(title) as view:
                    result = execute(
                        settings_of_trial(trial),
                        home,
                        store_address,
                        view,
                        {"runner": "subprocess", "until": "train"},
                        run=trial.pipeline_run,
                    )
                if result.failure:
                    failures[trial.number] = result.failure
                if result.interrupted:
                    stopped = result
                    break
            if stopped:
                break
        trials = read_trials(tracking)
        close_trials(tracking, store, trials, without_result="KILLED" if stopped else "FAILED")
        trials = read_trials(tracking)
        record(tracking, trials)
        tracking.finish("KILLED" if stopped else "FINISHED")
    end_heartbeat(store, run)
    code = stopped.exit_code if stopped else _exit_code(trials, failures)
    return SweepResult(run, tracking.run_id, trials, stopped is not None, ExitCode(int(code)), failures)


def _exit_code(trials: list[Trial], failures: dict[int, dict[str, Any]]) -> ExitCode:
    """A sweep succeeds if a trial has a result."""
    if any(trial.word_perplexity is not None for trial in trials):
        return ExitCode.OK
    return ExitCode(int(next(iter(failures.values()))["exit_code"])) if failures else ExitCode.FAILED


def append_records(
    path: Path, result: SweepResult, settings_of_trial: Callable[[Trial], RunSettings], command: str
) -> None:
    """Appends the trials that have a result to a file, each as a JSON line with all that is not a default.

    Args:
        path: the file.
        result: the result of the sweep.
        settings_of_trial: the settings of a trial.
        command: the command of the sweep, for the record.
    """
    lines, today = "", datetime.now(UTC).strftime("%Y-%m-%d")
    for trial in result.trials:
        if trial.word_perplexity is None:
            continue
        settings = settings_of_trial(trial)
        train = settings.train
        lines += json.dumps(
            {
                "date": today,
                "command": command,
                "profile": settings.profile,
                "varied": trial.values,
                "changed": _changed(settings),
                "parameters": int(trial.metrics["parameters"]),
                "steps": round(trial.metrics["tokens_seen"] / (train.global_batch_size * train.sequence_length)),
                "tokens": int(trial.metrics["tokens_seen"]),
                "seconds": round(trial.metrics["train_seconds"]),
                "word_perplexity": round(trial.word_perplexity, 2),
                "numerics": {"device": train.device, "threads": train.threads, "precision": train.precision},
                "machine": f"{cpu_model()}, {cores_granted()} cores",
            }
        )
        lines += "\n"
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(lines)


def _changed(settings: RunSettings) -> dict[str, Any]:
    """The settings of a trial that are no defaults, without those that do not change what is learned."""
    plain, own = asdict(TrainSettings(steps=1)), asdict(settings.train)
    numerics = {"device", "precision", "threads", "log_every"}
    changed = {name: value for name, value in own.items() if value != plain[name] and name not in numerics}
    return {"vocab_size": settings.tokenize.vocab_size} | changed
