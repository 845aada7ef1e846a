"""The step: ends the trials of the last round of a sweep, records its table, and suggests the trials of the next."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from components.shared.runtime.step import Step
from components.shared.storage.store import Store
from components.shared.tracking.run import Tracking, translate_mlflow_errors
from components.sweep.space import Dimension
from components.sweep.suggest import suggest
from components.sweep.table import markdown, ranked
from components.sweep.trials import Trial, close_trials, create_trials, read_trials

TABLE, RECORD = "trials.md", "trials.json"


@dataclass(frozen=True)
class Sweep:
    """What a sweep searches, and how.

    Attributes:
        space: the settings that vary.
        sampler: one of `components.sweep.suggest.SAMPLERS`.
        trials: the number of trials in all.
        at_once: the number of trials in a round.
        seed: the seed of the sampler.
    """

    space: tuple[Dimension, ...]
    sampler: str
    trials: int
    at_once: int
    seed: int

    @property
    def rounds(self) -> int:
        """The number of rounds that have trials."""
        return -(-self.trials // self.at_once)


def run(step: Step, sweep: Sweep, round_: int) -> list[str]:
    """Advances a sweep by one round, and returns its trials as JSON; after the last round there are none."""
    with translate_mlflow_errors(step.tracking.client):
        trials = advance(step.tracking, step.store, sweep, step.run, round_)
        if round_ == sweep.rounds:
            step.tracking.finish("FINISHED")
    return [json.dumps({"run": trial.pipeline_run, "overrides": trial.overrides}) for trial in trials]


def advance(tracking: Tracking, store: Store, sweep: Sweep, sweep_run: str, round_: int) -> list[Trial]:
    """Ends the trials of earlier rounds, records them, and creates those of a round; called again, it finds them.

    Args:
        tracking: the run of the sweep in MLflow.
        store: the store with the heartbeats of the trials.
        sweep: what is searched.
        sweep_run: the id of the pipeline run of the sweep.
        round_: the round, from 0; none has trials from `sweep.rounds` on.
    """
    known = read_trials(tracking)
    earlier = [trial for trial in known if trial.round < round_]
    close_trials(tracking, store, earlier)
    record(tracking, earlier)
    if round_ < sweep.rounds and not any(trial.round == round_ for trial in known):
        count = min(sweep.at_once, sweep.trials - len(earlier))
        chosen = suggest(sweep.space, sweep.sampler, earlier, count=count, seed=sweep.seed)
        create_trials(tracking, sweep_run, len(known) + 1, round_, chosen)
    return [trial for trial in read_trials(tracking) if trial.round == round_]


def record(tracking: Tracking, trials: list[Trial]) -> None:
    """Records the table of the trials as an artifact of the sweep, and the best one as its tags and metric."""
    if not trials:
        return
    tracking.client.log_text(tracking.run_id, markdown(trials), TABLE)
    tracking.client.log_dict(tracking.run_id, {"trials": [asdict(trial) for trial in ranked(trials)]}, RECORD)
    best = ranked(trials)[0]
    if best.word_perplexity is not None:
        tracking.metrics({"best_validation_word_perplexity": best.word_perplexity})
        tracking.tags({"wikigpt.best_trial": str(best.number), "wikigpt.best_settings": " ".join(best.overrides)})
