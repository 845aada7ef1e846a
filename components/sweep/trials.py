"""The trials of a sweep, which are runs of MLflow below the run of the sweep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.shared.runtime.liveness import end_heartbeat
from components.shared.storage.store import Store
from components.shared.tracking import registry
from components.shared.tracking.run import PIPELINE_RUN_TAG, Tracking

if TYPE_CHECKING:
    from mlflow.entities import Run

_TRIAL, _ROUND = "wikigpt.trial", "wikigpt.sweep_round"


@dataclass(frozen=True)
class Trial:
    """A training with the settings of a profile, of which some are replaced.

    Attributes:
        number: counts from 1.
        round: the round of the sweep that suggested it.
        values: the settings that the sweep varies.
        pipeline_run: the id under which its steps run.
        run_id: its run in MLflow.
        state: the status of that run.
        word_perplexity: on the validation tokens of the training; None if it has no result.
        metrics: what `train` measured: `train_seconds`, `tokens_seen`, `parameters`.
    """

    number: int
    round: int
    values: dict[str, Any]
    pipeline_run: str
    run_id: str
    state: str
    word_perplexity: float | None
    metrics: dict[str, float]

    @property
    def overrides(self) -> list[str]:
        """The settings as overrides of a run; JSON is YAML."""
        return [f"{name}={json.dumps(value)}" for name, value in self.values.items()]


def read_trials(sweep: Tracking) -> list[Trial]:
    """The trials of a sweep, by number."""
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    experiment = sweep.client.get_run(sweep.run_id).info.experiment_id
    condition, trials, token = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{sweep.run_id}'", [], None
    while True:
        page = sweep.client.search_runs([experiment], condition, page_token=token)
        trials += [_trial(run) for run in page if _TRIAL in run.data.tags]
        if not (token := page.token):
            return sorted(trials, key=lambda trial: trial.number)


def _trial(run: Run) -> Trial:
    tags, metrics = run.data.tags, run.data.metrics
    recorded = json.loads(tags[_TRIAL])
    return Trial(
        number=recorded["number"],
        round=int(tags[_ROUND]),
        values=recorded["values"],
        pipeline_run=tags[PIPELINE_RUN_TAG],
        run_id=run.info.run_id,
        state=run.info.status,
        word_perplexity=metrics.get(registry.VALIDATION_WORD_PERPLEXITY),
        metrics={name: metrics[name] for name in registry.TRAINING_METRICS if name in metrics},
    )


def create_trials(sweep: Tracking, sweep_run: str, first: int, round_: int, chosen: Sequence[dict[str, Any]]) -> None:
    """Creates the runs of new trials in MLflow. Their steps find them by the id of their pipeline run.

    Args:
        sweep: the run of the sweep.
        sweep_run: the id of its pipeline run.
        first: the number of the first new trial.
        round_: the round that suggests them.
        chosen: the settings of each.
    """
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    experiment = sweep.client.get_run(sweep.run_id).info.experiment_id
    for number, values in enumerate(chosen, first):
        tags = {
            MLFLOW_PARENT_RUN_ID: sweep.run_id,
            PIPELINE_RUN_TAG: f"{sweep_run}.trial-{number}",
            _TRIAL: json.dumps({"number": number, "values": values}),
            _ROUND: str(round_),
        }
        sweep.client.create_run(experiment, tags=tags, run_name=f"trial {number}")


def close_trials(sweep: Tracking, store: Store, trials: Sequence[Trial], *, without_result: str = "FAILED") -> None:
    """Ends the runs of trials that have ended, and their heartbeats.

    Args:
        sweep: the run of the sweep.
        store: the store with the heartbeats.
        trials: the trials, none of which is running any more.
        without_result: the status of a run without a result.
    """
    for trial in trials:
        if trial.state == "RUNNING":
            status = without_result if trial.word_perplexity is None else "FINISHED"
            sweep.client.set_terminated(trial.run_id, status)
            end_heartbeat(store, trial.pipeline_run)
